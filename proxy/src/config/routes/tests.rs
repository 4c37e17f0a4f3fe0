use std::fs;

use clap::{Args as _, Command, FromArgMatches as _};

use super::*;

fn load_with(toml: &str, flags: &[&str]) -> Result<Configuration, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, toml).unwrap();
    let command = Given::augment_args(Command::new("spillway"));
    let config = format!("--config={}", file.path().display());
    let matches = command.get_matches_from(["spillway", &config].iter().chain(flags));
    Configuration::load(Given::from_arg_matches(&matches).unwrap())
}

fn load(toml: &str) -> Configuration {
    load_with(toml, &[]).unwrap_or_else(|error| panic!("{error}: {toml}"))
}

/// What is told, without the file's name.
fn refusal(toml: &str, flags: &[&str]) -> String {
    let told = match load_with(toml, flags) {
        Ok(configuration) => {
            let common = configuration.common().unwrap();
            let mut routes = configuration.routes().iter();
            routes.find_map(|route| route.proxy(&common, None).err()).expect(toml).to_string()
        }
        Err(error) => error.to_string(),
    };
    told.split_once(": ").expect("the file's name").1.to_owned()
}

const TWO: &str = "keepalive = '5s'
spool_max = '10GiB'
[[route]]
name = 'a'
listen = '127.0.0.1:3307'
upstream = 'db1'
[[route]]
listen = ['unix:/run/b', '127.0.0.1:0']
upstream = ['db2', 'db3']
keepalive = '7s'
spool_max = '1GiB'
";

#[test]
fn routes_have_their_own_settings_and_those_above() {
    let two = load_with(TWO, &["--connect-timeout=3s"]).unwrap();
    let [a, b] = two.routes() else { panic!("{two:?}") };
    assert_eq!((a.name.as_deref(), b.name.as_deref()), (Some("a"), Some("unix:/run/b")));
    let seconds = |route: &RouteSettings| {
        [route.settings().keepalive, route.settings().connect_timeout].map(|span| span.unwrap().0.as_secs())
    };
    assert_eq!((seconds(a), seconds(b)), ([5, 3], [7, 3]));
    let limit = |route: &RouteSettings| route.settings().disk_limit();
    assert_eq!((limit(a), limit(b)), (u64::MAX, 1 << 30));
    assert_eq!(two.process.settings().disk_limit(), 10 << 30);
    assert_eq!(b.listen_addresses().unwrap().len(), 2);
}

#[test]
fn routes_share_what_is_of_the_process() {
    let two = load(&TWO.replace("10GiB", "3"));
    let common = two.common().unwrap();
    let proxies: Vec<_> =
        two.routes().iter().map(|route| Arc::new(route.proxy(&common, None).unwrap())).collect();
    assert!(proxies[0].disk.try_take(2) && !proxies[1].disk.has_room(2) && proxies[1].disk.has_room(1));
    let share = proxies[0].memory.share();
    assert!(share.is_some() && proxies[1].memory.used() > 0);
    // A change leaves what is in use in use.
    let other = load(&TWO.replace("10GiB", "100").replace("1GiB", "2"));
    let again = other.routes().iter().zip(&proxies);
    let again = again.map(|(route, before)| Arc::new(route.proxy(&common, Some(before)).unwrap()));
    let again: Vec<_> = again.collect();
    other.set_limits(&common, &again);
    assert_eq!((again[0].disk.used(), common.disk.used()), (2, 2));
    assert!(again[0].disk.has_room(98) && !again[1].disk.has_room(3) && again[1].disk.has_room(2));
}

#[test]
fn mistakes_of_routes_are_told_where_they_are() {
    let a = "[[route]]\nname = 'a'\nlisten = '127.0.0.1:1'\nupstream = 'db1'\n";
    let with = |rest: &str| format!("{a}{rest}");
    for (toml, flags, expected) in [
        (
            "upstream = 'db1'\nmemory = '1'".to_owned(),
            &[][..],
            "line 2: memory: --memory 1: must be at least",
        ),
        (
            "upstream = 'db1'\n\nkeepalive = '0s'".to_owned(),
            &[],
            "line 3: keepalive: --keepalive 0s: must be longer",
        ),
        ("[[route]]\nupstream = 'db1'".to_owned(), &[], "line 1: no address to listen on"),
        ("\n[[route]]\nlisten = '127.0.0.1:1'".to_owned(), &[], "line 2: route 127.0.0.1:1: no server"),
        (
            with("[[route]]\nupstream = 'db1'\nlisten = '127.0.0.1:1'"),
            &[],
            "line 7: route 127.0.0.1:1, listen: the address 127.0.0.1:1 is also that of the route at line 1",
        ),
        (
            with("[[route]]\nname = 'a'\nupstream = 'db1'\nlisten = '127.0.0.1:2'"),
            &[],
            "line 6: route a, name: the name is also that of the route at line 1",
        ),
        (with("tls_cert = '/no/such'"), &[], "line 5: route a, tls_cert: --tls-cert /no/such: "),
        (with("auth = 'stored'"), &[], "line 5: route a, auth: auth = stored, but no account"),
        (with("auth = 'stored'\nuser = 'a'"), &[], "line 6: route a, user: a user is given and no password"),
        (with("user = 'a'"), &[], "line 5: route a, user: --user is given, but the client's own"),
        (with(""), &["--upstream-tls-ca=/no/such"], "line 1: route a: --upstream-tls-ca /no/such: "),
        (with(""), &["--upstream=db2"], "line 1: the file has routes, each with upstream"),
        (with(""), &["--listen=127.0.0.1:9"], "line 1: the file has routes, each with listen"),
        (format!("upstream = 'db2'\n{a}"), &[], "line 1: upstream: the file has routes"),
    ] {
        let told = refusal(&toml, flags);
        assert!(told.starts_with(expected) && !told.contains('\n'), "{toml}: {told}");
    }
}

#[test]
fn a_tcp_listener_to_a_socket_is_told_by_route() {
    let toml = "[[route]]\nlisten = '127.0.0.1:1'\nupstream = 'unix:/s'\n";
    let error = load(toml).routes()[0].listen_addresses().unwrap_err().to_string();
    assert!(
        error.contains("line 3: route 127.0.0.1:1, upstream: ") && error.contains("--allow-socket-upstream")
    );
    assert!(load(&format!("{toml}allow_socket_upstream = true")).routes()[0].listen_addresses().is_ok());
}

/// What is printed, without the origins, which change with the file.
fn without_origins(printed: &str) -> String {
    let lines = printed.lines().map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_printed_has_the_same_effect() {
    let tricky = "session_init = [\"SET a = 'b # c'\", \"two\\nlines \\\"\"]\nspool_dir = '/var/tmp'\n";
    for toml in [
        "upstream = 'db1'".to_owned(),
        format!("{tricky}upstream = '[::1]:3307'"),
        format!("{tricky}upstream = ['db1', 'unix:/s']\ntls_self_signed = true\nkeepalive = '1m 30s'"),
        "upstream = 'db1'\nupstream_tls_ca = '/ca'\nproxy_protocol_networks = ['10.0.0.0/8', '*', 'localhost']"
            .to_owned(),
        "upstream = 'db1'\ntls_cert = '/c'\ntls_client_ca = '/ca'\nmemory_per_session = '100000'".to_owned(),
        "upstream = 'db1'\nallow = ['10.0.0.0/8', 'localhost']\nmax_sessions = 7".to_owned(),
        format!("{tricky}{TWO}tls_self_signed = true\nupstream_tls = 'off'"),
        format!("upstream_tls_ca = '/ca'\n{TWO}"),
    ] {
        let printed = load(&toml).to_string();
        let again = load(&printed).to_string();
        assert_eq!(without_origins(&printed), without_origins(&again), "{printed}");
        assert!(!again.contains("# default"), "{again}");
    }
}

#[test]
fn what_is_printed_tells_the_origins_and_no_password() {
    let printed = load_with(
        "upstream = 'db1'\n\nkeepalive = '3s'\nauth = 'stored'\nuser = 'a'\nconnect_timeout = '1s'",
        &["--connect-timeout=2s"],
    );
    let printed = printed.unwrap().to_string();
    for line in [
        "upstream = [\"db1:3306\"]  # line 1",
        "keepalive = \"3s\"  # line 3",
        "spool_min_free = \"1GiB\"  # default",
        "connect_timeout = \"2s\"  # flag",
        "auth_timeout = \"20s\"  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    let mut settings = load(TWO);
    settings.routes[0].layer =
        Layer::new(toml::from_str("password = 's3cret'").unwrap(), |_| Origin::Line(7));
    let printed = settings.to_string();
    assert!(printed.contains("# password: not shown  # line 7") && !printed.contains("s3cret"), "{printed}");
}

#[test]
fn changes_are_told_by_key_and_route() {
    let changes = |before: &str, now: &str| load(now).changes(&load(before)).join(", ");
    assert_eq!(changes(TWO, TWO), "");
    let now = TWO.replace("10GiB", "9GiB").replace("'db1'", "'db9'").replace("'7s'", "'8s'");
    assert_eq!(changes(TWO, &now), "spool_max, a: upstream, unix:/run/b: keepalive");
    let now = format!("max_sessions = 5\n{TWO}max_sessions = 2\nallow = '10.0.0.0/8'");
    assert_eq!(changes(TWO, &now), "max_sessions, unix:/run/b: allow max_sessions");
    let now = TWO.replace("'a'", "'c'");
    assert_eq!(changes(TWO, &now), "c: new, a: removed");
    assert_eq!(changes("upstream = 'db1'", "upstream = 'db2'\nkeepalive = '1s'"), "upstream, keepalive");
    let mut now = load("upstream = 'db1'\nspool_dir = '/tmp'");
    let before = load("upstream = 'db1'");
    assert!(now.keep_what_needs_restart(&before) == ["spool_dir"] && now.changes(&before).is_empty());
}
