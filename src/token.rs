//! Whose operation a completion belongs to.

use std::fmt;

/// Names one operation in flight: who asked (a slot and its generation) and what for (a role).
///
/// ```text
/// 63           32 31          8 7      0
/// ┌──────────────┬─────────────┬────────┐
/// │ slot         │ generation  │ role   │
/// └──────────────┴─────────────┴────────┘
/// ```
///
/// To a poller a token is an opaque number that is in flight at most once. To the worker it is an
/// index into its sessions, and the generation tells a session from the one that had the slot
/// before: a completion that comes late finds nobody instead of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// A token for `slot`, whose `generation` counts modulo 2^24.
    pub const fn new(slot: u32, generation: u32, role: u8) -> Token {
        Token((slot as u64) << 32 | ((generation & GENERATION_MASK) as u64) << 8 | role as u64)
    }

    /// The index of whoever asked.
    pub const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which of the successive owners of the slot asked; 24 bits.
    pub const fn generation(self) -> u32 {
        (self.0 >> 8) as u32 & GENERATION_MASK
    }

    /// What the operation is for, in the asker's own numbering.
    pub const fn role(self) -> u8 {
        self.0 as u8
    }

    /// The same owner, another operation.
    pub const fn with_role(self, role: u8) -> Token {
        Token(self.0 & !0xff | role as u64)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.slot(), self.generation(), self.role())
    }
}

/// Generations count modulo 2^24, which is enough: a token is stale for at most one turn.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_parts_do_not_overlap() {
        let token = Token::new(u32::MAX, 0x00ab_cdef, 0x5a);
        assert_eq!((token.slot(), token.generation(), token.role()), (u32::MAX, 0x00ab_cdef, 0x5a));
        assert_eq!(token.with_role(1), Token::new(u32::MAX, 0x00ab_cdef, 1));
        assert_eq!(Token::new(3, 0x0100_0001, 9).generation(), 1);
    }
}
