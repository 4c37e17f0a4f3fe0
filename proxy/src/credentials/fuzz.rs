//! Any bytes as an option file.

use super::option_file::parse;
use crate::fuzzing::within;

/// What is read of a file is no longer than the file, and what is wrong with it is told without a word of it.
pub(crate) fn option_file(input: &[u8]) {
    // Four values at a time are more than there are: two groups, each with both.
    let account = match within(4 * input.len() + 256, || parse(input)) {
        Ok(account) => account,
        Err(bad) => {
            let told = bad.at("file".as_ref()).to_string();
            assert!(told.is_ascii() && told.len() < 300, "{told}");
            return;
        }
    };
    let len = [&account.user, &account.password].map(|value| value.as_ref().map_or(0, |value| value.len()));
    assert!(len[0] + len[1] <= input.len(), "{len:?} bytes of {}", input.len());
    assert!(account.has_group || (account.user.is_none() && account.password.is_none()));
    // Other lines make no difference.
    let more = [b"# comment\n[mysqldump]\npassword=x\n", input, b"\n[other]\nuser=y\npassword=z\n"].concat();
    let Ok(again) = parse(&more) else {
        // What stood before the first group stands in one now, and is passed over; nothing gets worse.
        panic!("refused with other lines around it");
    };
    assert!(
        (again.user, again.password) == (account.user, account.password),
        "other lines made a difference"
    );
}
