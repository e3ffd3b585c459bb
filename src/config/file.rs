//! A configuration file: found, judged by its looks, read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::env::Env;
use super::error::{Errors, Findings, Origin, Place};
use super::{Format, Loaded, parse};

/// Reads the configuration at `path`; its ending says which notation it is in.
pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Errors> {
    let name = path.display().to_string();
    match read(path) {
        Ok((text, format)) => parse(&text, &name, format, env),
        Err((place, message)) => Err(Findings::new(Origin::File(name)).fail(place, message)),
    }
}

fn read(path: &Path) -> Result<(String, Format), (Place, String)> {
    let whole = |message: String| (Place::default(), message);
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => {
            let message = "cannot tell how it is written (the name must end in .yaml, .yml, .toml \
                           or .json)";
            return Err(whole(message.to_owned()));
        }
    };
    let failed = |error: io::Error| whole(format!("cannot read it: {}", reason(&error)));
    // Opening a FIFO waits for a writer, so look before.
    let metadata = fs::metadata(path).map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(whole("is a directory (name the file in it)".to_owned()));
    }
    if !kind.is_file() {
        let what = if kind.is_fifo() { "a FIFO" } else { "a device or socket" };
        return Err(whole(format!("is {what} (a reload reads it again, so it must be a file)")));
    }
    let too_large = || whole(format!("is larger than {} MiB", SIZE_MAX >> 20));
    if metadata.len() > SIZE_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, format)),
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Err((
                end_of(&String::from_utf8_lossy(valid)),
                "not valid UTF-8 from here on".to_owned(),
            ))
        }
    }
}

/// The place after the last character.
fn end_of(text: &str) -> Place {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    Place { line: number(line), column: number(column) }
}

/// The system's words, in ours where they would puzzle.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
            text.to_lowercase()
        }
    }
}

/// Larger than any configuration people wrote.
const SIZE_MAX: u64 = 10 << 20;
