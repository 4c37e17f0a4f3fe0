//! The way to a server, step by step, as a session goes it.

use std::net::SocketAddr;
use std::time::Duration;

use spillway_protocol::{AuthPlugin, Capabilities, Compression, HandshakeResponse};
use tokio::time::Instant;

use super::advice::advice;
use super::report::{About, AddressReport, Findings, ServerReport, SessionReport, Step, UpstreamReport};
use super::session::look_at;
use crate::backend::attempts::Attempts;
use crate::backend::decline::decline;
use crate::backend::failure::{AttemptError, Phase};
use crate::backend::login::{LoggedIn, LoginError, LoginRefused, OWN_LOGIN, prove};
use crate::backend::query::quit;
use crate::backend::{Reached, Server, Upstreams};
use crate::config::UpstreamTlsMode;
use crate::credentials::{Auth, Credentials};
use crate::endpoint::Endpoint;
use crate::printable::printable;
use crate::session::Proxy;

/// Tries each address of an upstream once.
pub(super) async fn check_upstream(
    proxy: &Proxy,
    upstream: &Endpoint,
    findings: &mut Findings,
) -> UpstreamReport {
    let mut report = UpstreamReport { upstream: upstream.to_string(), resolve: None, addresses: Vec::new() };
    let addresses = match resolve(&proxy.upstreams, upstream, &mut report).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            failure.tell(false, findings);
            return report;
        }
    };
    let mut failures = Vec::new();
    for address in addresses {
        let mut way = Way { proxy, upstream, report: AddressReport::default(), findings };
        failures.extend(way.walk(address).await.err());
        report.addresses.push(way.report);
    }
    // A session goes on to the next address by itself.
    let is_reached = failures.len() < report.addresses.len();
    for failure in failures {
        failure.tell(is_reached, findings);
    }
    report
}

/// The addresses; `None` for a Unix socket.
async fn resolve(
    upstreams: &Upstreams,
    upstream: &Endpoint,
    report: &mut UpstreamReport,
) -> Result<Vec<Option<SocketAddr>>, Failure> {
    let Endpoint::Tcp { host, .. } = upstream else { return Ok(vec![None]) };
    let began = Instant::now();
    let resolved = upstreams.resolve(upstream, &upstreams.attempts_at_one(None)).await;
    let addresses = resolved.map_err(Failure::from);
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    report.resolve = is_name.then(|| {
        step("resolve", began.elapsed(), &addresses, |addresses| {
            let ips: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            ips.join(", ")
        })
    });
    Ok(addresses?.into_iter().map(Some).collect())
}

/// The way to one address.
struct Way<'a> {
    proxy: &'a Proxy,
    upstream: &'a Endpoint,
    report: AddressReport,
    findings: &'a mut Findings,
}

impl Way<'_> {
    async fn walk(&mut self, address: Option<SocketAddr>) -> Result<(), Failure> {
        let upstreams = &self.proxy.upstreams;
        let attempts = upstreams.attempts_at_one(None);
        self.report.address =
            address.map_or_else(|| self.upstream.to_string(), |address| address.to_string());
        let (place, addresses) = (self.report.address.clone(), Vec::from_iter(address));

        let began = Instant::now();
        let connected = upstreams.connect(self.upstream, &addresses, &attempts).await;
        let (stream, server) = self.note("connect", began, connected.map_err(Failure::from), |_| place)?;

        let began = Instant::now();
        let greeted = upstreams.greeting_of(stream, server, &attempts).await.map_err(Failure::from);
        let reached = self.note("greeting", began, greeted, describe)?;
        self.report.server = Some(ServerReport::greeted(&reached));
        self.note_compression(&reached);
        self.note_socket(&reached);
        match &self.proxy.auth {
            Auth::Stored(credentials) => self.log_in(reached, credentials, &attempts).await,
            Auth::Passthrough => self.leave(reached).await,
        }
    }

    /// Without credentials the way ends here; so that the server does not count it, by a login that it refuses.
    async fn leave(&mut self, reached: Reached) -> Result<(), Failure> {
        let offered = reached.greeting.capabilities().contains(Capabilities::SSL);
        let wanted = self.proxy.upstreams.tls.wanted(offered, reached.stream.stream.is_unix());
        let text = format!("beginning TLS with {}", reached.server);
        decline(reached.stream, &reached.greeting).await;
        let wanted =
            wanted.map_err(|failure| Failure::last(format!("{text}: {failure}"), failure.to_string()));
        if let Err(failure) = wanted {
            self.report.steps.push(Step::failed("tls", failure.detail.clone(), None));
            return Err(failure);
        }
        self.report.steps.push(Step::skipped("login", "not tried: no credentials"));
        self.findings.note(
            About::Session,
            "the login was not tried, as the clients bring their own passwords",
            Some("give --auth stored and --credentials FILE to have it tried, with TLS and the server's settings"),
        );
        Ok(())
    }

    async fn log_in(
        &mut self,
        reached: Reached,
        credentials: &Credentials,
        attempts: &Attempts,
    ) -> Result<(), Failure> {
        let upstreams = &self.proxy.upstreams;
        // As dump clients have them: a session-init statement may be a CALL.
        let capabilities = OWN_LOGIN | (Capabilities::MULTI_RESULTS & reached.greeting.capabilities());
        let response = HandshakeResponse::new(capabilities, credentials.user());

        let began = Instant::now();
        let secured = upstreams.secure(reached, &response, capabilities, attempts).await;
        let mode = upstreams.tls.mode();
        let reached =
            self.note("tls", began, secured.map_err(Failure::from), |reached| describe_tls(reached, mode))?;
        self.note_openness(&reached);

        let (server, user) = (reached.server.clone(), printable(credentials.user()));
        let began = Instant::now();
        let proved = prove(upstreams, reached, &response, capabilities, credentials, attempts).await;
        let proved = proved.map_err(|error| Failure::in_login(error, &server, &user));
        let LoggedIn { mut reached, plugin, .. } = self
            .note("login", began, proved, |logged_in| format!("{user}, by {}", name_of(logged_in.plugin)))?;

        let tls = reached.stream.stream.is_tls().then(|| reached.stream.stream.tls_version());
        let mut session = SessionReport { user, plugin: name_of(plugin), tls, ..SessionReport::default() };
        let limit = attempts.limit(|limits| limits.auth);
        let step = look_at(self.proxy, &mut reached, capabilities, limit, &mut session, self.findings).await;
        self.report.steps.push(step);
        if let Some(report) = &mut self.report.server {
            report.session = Some(session);
        }
        quit(reached.stream).await;
        Ok(())
    }

    /// Adds a step.
    fn note<T>(
        &mut self,
        name: &'static str,
        began: Instant,
        outcome: Result<T, Failure>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        self.report.steps.push(step(name, began.elapsed(), &outcome, describe));
        outcome
    }

    fn note_compression(&mut self, reached: &Reached) {
        let wanted = self.proxy.upstreams.compression();
        if let Some(wanted) = wanted.filter(|&wanted| Compression::agreed(reached.hop) != Some(wanted)) {
            let text =
                format!("{} offers no compression by {}: there will be none", reached.server, wanted.name());
            self.findings.note(About::Session, text, None);
        }
    }

    fn note_socket(&mut self, reached: &Reached) {
        if reached.stream.stream.is_unix() && !self.proxy.allow_socket_upstream {
            let text =
                format!("{} serves only clients that come over a Unix socket as this user", reached.server);
            self.findings.note(About::Session, text, Some("use spillway run, or --listen unix:PATH"));
        }
    }

    fn note_openness(&mut self, reached: &Reached) {
        if !reached.stream.stream.is_safe() {
            let text = format!(
                "the connection to {} is not encrypted: who listens there reads the data",
                reached.server
            );
            let advice =
                "turn TLS on at the server (ssl_cert, ssl_key) and give --upstream-tls required or better";
            self.findings.note(About::Session, text, Some(advice));
        }
    }
}

fn step<T>(
    name: &'static str,
    time: Duration,
    outcome: &Result<T, Failure>,
    describe: impl FnOnce(&T) -> String,
) -> Step {
    match outcome {
        Ok(value) => Step::ok(name, describe(value), Some(time)),
        Err(failure) => Step::failed(name, failure.detail.clone(), Some(time)),
    }
}

/// Why a way ended.
struct Failure {
    /// For the step.
    detail: String,
    /// For the findings, where nobody sees the step.
    text: String,
    advice: Option<&'static str>,
    /// No session would try another address after it.
    is_final: bool,
}

impl Failure {
    /// That ends a session's attempts; the text says what to do.
    fn last(text: String, detail: String) -> Self {
        Self { detail, text, advice: None, is_final: true }
    }

    fn in_login(error: LoginError, server: &Server, user: &str) -> Self {
        match error {
            LoginError::Lost(error) => error.into(),
            LoginError::Refused(refused) => {
                let advice = match &refused {
                    LoginRefused::Told { cause, .. } => advice(Phase::Auth, cause),
                    LoginRefused::NotAnswerable { .. } => None,
                };
                let text = format!("logging in to {server} as {user}: {refused}");
                Self { advice, ..Self::last(text, refused.to_string()) }
            }
        }
    }

    /// Tells it, as a problem unless a session would reach the upstream all the same.
    fn tell(self, is_reached: bool, findings: &mut Findings) {
        if is_reached && !self.is_final {
            let text = format!("{}; another address of the same name is taken", self.text);
            findings.note(About::Upstream, text, self.advice);
        } else {
            findings.problem(About::Upstream, self.text, self.advice);
        }
    }
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        Self {
            detail: error.cause.to_string(),
            text: error.to_string(),
            advice: advice(error.phase, &error.cause),
            is_final: error.cause.is_refusal() || !error.cause.passes(),
        }
    }
}

impl ServerReport {
    fn greeted(reached: &Reached) -> Self {
        let greeting = &reached.greeting;
        Self {
            kind: if greeting.is_mariadb() { "mariadb" } else { "mysql" },
            version: version_of(reached),
            tls_offered: greeting.capabilities().contains(Capabilities::SSL),
            session: None,
        }
    }
}

/// The version without what MariaDB puts before its own, for replicas of MySQL 5.5.
fn version_of(reached: &Reached) -> String {
    let version = reached.greeting.server_version();
    match reached.greeting.is_mariadb() {
        true => printable(version.strip_prefix(b"5.5.5-").unwrap_or(version)),
        false => printable(version),
    }
}

fn describe(reached: &Reached) -> String {
    let maker = if reached.greeting.is_mariadb() { "MariaDB" } else { "MySQL" };
    let tls = match reached.greeting.capabilities().contains(Capabilities::SSL) {
        true => "offers TLS",
        false => "offers no TLS",
    };
    format!("{maker} {}, {tls}", version_of(reached))
}

fn describe_tls(reached: &Reached, mode: UpstreamTlsMode) -> String {
    let stream = &reached.stream.stream;
    if stream.is_tls() {
        let checked = match mode {
            UpstreamTlsMode::VerifyIdentity => "the certificate is of a known CA and for this name",
            UpstreamTlsMode::VerifyCa => "the certificate is of a known CA",
            _ => "the certificate is not checked",
        };
        return format!("TLS {}, {checked}", stream.tls_version());
    }
    let why = match mode {
        UpstreamTlsMode::Off => "--upstream-tls off",
        _ if stream.is_unix() => "a Unix socket",
        _ => "not offered",
    };
    format!("none: {why}")
}

fn name_of(plugin: AuthPlugin) -> &'static str {
    match plugin.name() {
        "" => "an unknown plugin",
        name => name,
    }
}
