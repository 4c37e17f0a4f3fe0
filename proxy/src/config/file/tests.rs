use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::units::Size;
use super::*;

fn settings(toml: &str) -> Result<Settings, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, toml).unwrap();
    Settings { config: Some(file.path().to_owned()), ..Settings::default() }.with_file()
}

#[test]
fn a_file_fills_in_what_flags_leave_out() {
    let file =
        settings("upstream = 'db1:3307'\nmemory = '64MiB'\nkeepalive = '2s'\nsession_init = []").unwrap();
    assert_eq!(file.upstream.unwrap()[0].to_string(), "db1:3307");
    assert_eq!(file.memory, Some(Size(64 << 20)));
    assert_eq!(file.session_init, Some(vec![]));
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line() {
    let error = settings("memory = '1GiB'\nspool_max = 'many'").unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("many"), "{error}");
    let error = settings("\nspool_mux = '1GiB'").unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("spool_mux"), "{error}");
}

/// What is told of a file, without the file's name.
fn mistake(toml: &str) -> String {
    let told = settings(toml).unwrap_err().to_string();
    let (_, told) = told.split_once(": ").expect("the file's name");
    told.to_owned()
}

#[test]
fn mistakes_are_told_by_line_route_and_key() {
    let route = |rest: &str| format!("memory = '1GiB'\n\n[[route]]\nlisten = '127.0.0.1:1'\n{rest}");
    for (toml, expected) in [
        ("memory = ".to_owned(), "line 1: memory: "),
        ("\nmemory == '1GiB'".to_owned(), "line 2: memory: "),
        ("memory = '1GiB'\nmemory = '2GiB'".to_owned(), "line 2: memory: duplicate key"),
        ("[memory".to_owned(), "line 1: "),
        ("log_level = \"a\\u001bb\"".to_owned(), "line 1: log_level: \"a\\u{1b}b\" is no level"),
        ("tls = \"a\\u001bb\"".to_owned(), "line 1: tls: unknown variant `a\u{fffd}b`"),
        (
            "keepalive = \"\"\"\n1s\npassword = 'secret'\"\"\"".to_owned(),
            "line 1: keepalive: cannot be used, and is not shown",
        ),
        ("upstream = 5".to_owned(), "line 1: upstream: must be a string in quotes, or a list of them"),
        ("upstream = 'db1:x'".to_owned(), "line 1: upstream: address `db1:x`: port `x` is not a number"),
        ("tls = 'perhaps'".to_owned(), "line 1: tls: unknown variant `perhaps`"),
        ("log_level = 'shouting'".to_owned(), "line 1: log_level: \"shouting\" is no level"),
        ("[mysqld]\nport = 3306".to_owned(), "line 1: mysqld: there is no such setting"),
        ("[route]\nlisten = '127.0.0.1:1'".to_owned(), "line 1: route: a route begins with [[route]]"),
        ("route = [5]".to_owned(), "line 1: route: a route begins with [[route]]"),
        (route("spool_mux = '1'"), "line 5: route 127.0.0.1:1, spool_mux: there is no such setting"),
        (route("keepalive = 'soon'"), "line 5: route 127.0.0.1:1, keepalive: \"soon\" is no time"),
        (route("name = 'a'\nkeepalive = 5"), "line 6: route a, keepalive: invalid type: integer `5`"),
        (route("memory = '1GiB'"), "line 5: route 127.0.0.1:1, memory: is for the whole process"),
        (route("log_level = 'info'"), "line 5: route 127.0.0.1:1, log_level: is for the whole process"),
        (route("name = ''"), "line 5: name: a route's name is"),
        (route("name = 5"), "line 5: name: a route's name is"),
        (route("name = \"a\\nb\""), "line 5: name: a route's name is"),
        (route("auth = { a = 1 }"), "line 5: route 127.0.0.1:1, auth: "),
    ] {
        let told = mistake(&toml);
        assert!(told.starts_with(expected) && !told.contains('\n'), "{toml}: {told}");
    }
}

#[test]
fn a_file_with_a_password_must_be_private() {
    let text = "auth = 'stored'\nuser = 'backup'\npassword = 'secret'";
    let read = |mode, text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        Settings { config: Some(file.path().to_owned()), ..Settings::default() }.with_file()
    };
    assert_eq!(read(0o600, text).unwrap().password.unwrap().as_bytes(), b"secret");
    assert!(read(0o644, "user = 'backup'").is_ok());
    for password in ["console_password = 'secret'", "web_password = 'secret'"] {
        assert!(read(0o640, password).is_err(), "{password}");
    }
    let error = read(0o640, text).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && !error.contains("secret"), "{error}");
}

#[test]
fn no_mistake_shows_the_password() {
    for value in [
        "4711",
        "-4711",
        "47.11",
        "4711e5",
        "true4711",
        "true",
        "4711-01-02",
        "[4711]",
        "{ a = '4711' }",
        "4711x",
        "99999999999999999999994711",
        "'4711",
        "\"4711\\x\"",
        "\"4711\u{7}\"",
        "4711 4712",
        "'4711'x",
        "0x4711",
        "04711",
        "inf",
    ] {
        for (above, key) in [
            ("user = 'a'", "password"),
            ("[[route]]", "password"),
            ("user = 'a'", "console_password"),
            ("user = 'a'", "web_password"),
        ] {
            let text = format!("{above}\n{key} = {value}\n");
            match settings(&text) {
                Ok(settings) => panic!("{value}: {settings:?}"),
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    let is_told = shown.contains("line 2") && shown.contains("password");
                    assert!(is_told && !shown.contains("4711"), "{value}: {shown}");
                }
            }
        }
    }
}
