//! Users of this node, by name or by number.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::config::oslo::values;

/// The node's own users. Users of a directory service are left out, because a request to one can hang.
const PASSWD: &str = "/etc/passwd";

/// The number of the user `name` in `/etc/passwd` of this node.
#[must_use]
pub fn user_number(name: &str) -> Option<u32> {
    number_in(Path::new(PASSWD), name)
}

/// Users by name or by number, between commas.
pub(super) fn users(text: &str) -> Result<BTreeSet<u32>, String> {
    let number = |user: String| {
        let found = user.parse().ok().or_else(|| user_number(&user));
        found.ok_or_else(|| {
            "users by number, or by a name in /etc/passwd of this node, between commas".to_owned()
        })
    };
    values::list(text)?.into_iter().map(number).collect()
}

fn number_in(passwd: &Path, name: &str) -> Option<u32> {
    let passwd = fs::read(passwd).ok()?;
    String::from_utf8_lossy(&passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let passwd = folder.path().join("passwd");
        let text = "root:x:0:0:root:/root:/bin/bash\ncinders:x:7:7::/:\n\
                    cinder:x:64061:64061::/var/lib/cinder:\nodd:x:-:1\n";
        fs::write(&passwd, text).unwrap();
        assert_eq!(number_in(&passwd, "cinder"), Some(64061));
        assert_eq!(number_in(&passwd, "root"), Some(0));
        for name in ["odd", "nobody", ""] {
            assert_eq!(number_in(&passwd, name), None, "{name:?}");
        }
        assert_eq!(number_in(&folder.path().join("none"), "cinder"), None);
    }

    #[test]
    fn users_are_names_and_numbers() {
        assert_eq!(users(""), Ok([].into()));
        assert_eq!(users("root, 42407,"), Ok([0, 42407].into()));
        for text in ["no such user", "-1", "4294967296", "0;1"] {
            assert!(users(text).is_err(), "{text:?}");
        }
    }
}
