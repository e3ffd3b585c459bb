//! A directory that lives as long as its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of one test, emptied and removed at its end.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new directory in the system's place for temporary files. Paths stay short, because a Unix
    /// socket's path ends after 107 bytes; everybody may enter, because some servers refuse to be root.
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only the number's uniqueness matters.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ek-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory takes a new folder");
        open_to_all(&path);
        Folder { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file into it and says where.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a file in the test's own folder can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Lets other users read and enter `path`.
#[cfg(unix)]
pub fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .expect("the owner may change the mode of a file");
}
