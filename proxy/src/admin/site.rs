//! What is there, and for whom.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::basic_auth::{BasicAuth, Denied, USER};
use super::health::Health;
use super::metrics::Recorder;
use super::web;
use crate::watched::Watched;

/// What can be asked for.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) health: Health,
    /// Where metrics are served.
    pub(super) recorder: Option<Recorder>,
    pub(super) watched: Watched,
}

/// What a socket is for. Health and readiness are told on every one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serves {
    pub(super) metrics: bool,
    pub(super) web: bool,
}

/// What one socket serves.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) names: Names,
    pub(super) serves: Serves,
    /// Without it the page is for all who reach it.
    pub(super) auth: Option<BasicAuth>,
    pub(super) pages: Arc<Pages>,
}

/// An answer, before it is one of HTTP.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Page {
    /// One of this kind.
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into() }
    }

    /// `value` as JSON.
    pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, content_type: "application/json", body: body.into() },
            // Maps with keys that are no texts, which nothing here has.
            Err(error) => Self::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn refusal(status: StatusCode, text: &str) -> Self {
        Self { status, ..Self::new(TEXT, format!("{text}\n")) }
    }
}

impl Site {
    /// Answers one request from this address. What it carries behind its head is not read.
    pub(super) async fn answer(&self, request: &Request<Incoming>, from: IpAddr) -> Response<Full<Bytes>> {
        let page = match self.admit(request, from) {
            Ok(()) => self.page(request.uri().path()).await,
            Err(refusal) => refusal,
        };
        respond(page)
    }

    /// Whether a request may be answered at all.
    fn admit<B>(&self, request: &Request<B>, from: IpAddr) -> Result<(), Page> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "only GET and HEAD are answered here";
            return Err(Page::refusal(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        // Prometheus and health checks come by whatever name they were given, and are told of no user and no table.
        if OPEN.contains(&request.uri().path()) {
            return Ok(());
        }
        match request.headers().get(header::HOST).map(HeaderValue::to_str) {
            Some(Ok(host)) if self.names.have(host) => {}
            // From before the header was made; no browser speaks so.
            None if request.version() == Version::HTTP_10 => {}
            _ => {
                return Err(Page::refusal(
                    StatusCode::MISDIRECTED_REQUEST,
                    "not served by this name: use the IP address, localhost, the name of this host or the one in --web",
                ));
            }
        }
        let Some(auth) = &self.auth else { return Ok(()) };
        auth.check(request.headers().get(header::AUTHORIZATION), from).map_err(|denied| match denied {
            Denied::NotProved => {
                let text = format!("this page is for the user {USER} with the password of web_password");
                Page::refusal(StatusCode::UNAUTHORIZED, &text)
            }
            Denied::TooSoon => {
                let text = "a wrong password came from your address a moment ago: try again in a second";
                Page::refusal(StatusCode::TOO_MANY_REQUESTS, text)
            }
        })
    }

    async fn page(&self, path: &str) -> Page {
        let Pages { health, recorder, watched } = &*self.pages;
        match (path, recorder) {
            ("/healthz", _) => health.alive(watched).await,
            ("/readyz", _) => health.ready(watched).await,
            ("/metrics", Some(recorder)) if self.serves.metrics => {
                Page::new("text/plain; version=0.0.4; charset=utf-8", recorder.render(watched))
            }
            _ if self.serves.web => web::page(path, watched).unwrap_or_else(not_found),
            _ => not_found(),
        }
    }
}

fn not_found() -> Page {
    Page::refusal(
        StatusCode::NOT_FOUND,
        "nothing here; see /healthz, /readyz, and what --metrics and --web serve",
    )
}

fn respond(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.body));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    let more = match page.status {
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD")),
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, CHALLENGE)),
        StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
        _ => None,
    };
    headers.extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// The names under which a socket is known. A page of another site whose name was made to lead here (DNS rebinding)
/// asks by that name, and is told nothing.
#[derive(Debug)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// Of a socket that is bound to `host`.
    pub(super) fn of(host: &str) -> Self {
        let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self([Some("localhost".to_owned()), Some(host.to_owned()), own].into_iter().flatten().collect())
    }

    /// Whether a request with this Host header is meant for this socket. An IP address cannot be made to lead elsewhere.
    fn have(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.parse::<IpAddr>().is_ok() || self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// What a browser asks its user for.
const CHALLENGE: &str = "Basic realm=\"spillway\", charset=\"UTF-8\"";

/// What is answered under any name, and without a password.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

const TEXT: &str = "text/plain; charset=utf-8";

/// Of every answer: the page runs and shows nothing but its own, in no frame, and no other page can read it.
const HEADERS: [(header::HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names = Names(vec!["localhost".to_owned(), "db-proxy".to_owned()]);
        for known in
            ["localhost", "LocalHost:9307", "127.0.0.1", "10.1.2.3:9307", "[::1]:9307", "[::1]", "DB-proxy:1"]
        {
            assert!(names.have(known), "{known}");
        }
        for foreign in
            ["evil.example", "evil.example:9307", "localhost.evil.example", "", ":9307", "[evil]", "1.2.3"]
        {
            assert!(!names.have(foreign), "{foreign}");
        }
    }
}
