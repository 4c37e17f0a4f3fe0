//! A headless Chromium, steered by the DevTools protocol over a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::client;
use crate::log::Log;
use crate::process::Running;

/// A browser with one page. Dropping it kills it.
#[derive(Debug)]
pub struct Browser {
    running: Running,
    log: Log,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    last_id: u64,
    page: Option<String>,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it, with an empty page.
    pub fn start() -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("spillway-browser-").tempdir()?;
        // It reads from descriptor 3 and writes to 4.
        let mut command = client::clean("/bin/sh");
        command
            .args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>&2"#, "browser"])
            .arg(program()?)
            .args(OPTIONS);
        command.arg(format!("--user-data-dir={}", profile.path().display())).env("HOME", profile.path());
        let mut running = Running::start(command.stdin(Stdio::piped()))?;
        let log = Log::collect(running.child.stderr.take().context("no stderr")?);
        let pipe = running.child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(running.child.stdout.take().context("no stdout")?);
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while stdout.read_until(0, &mut message).is_ok_and(|len| len > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            running,
            log,
            pipe,
            messages,
            last_id: 0,
            page: None,
            events: Vec::new(),
            _profile: profile,
        };
        browser.open_page()?;
        Ok(browser)
    }

    fn open_page(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attached)?;
        self.page = Some(attached["sessionId"].as_str().context("no page")?.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// The size of the window, and whether it is a phone's.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) -> Result<()> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", &metrics).map(drop)
    }

    /// Goes to a page.
    pub fn go_to(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(gone["errorText"].is_null(), "{url}: {gone}");
        Ok(())
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression in the page is `true`.
    pub fn wait_until(&mut self, expression: &str, limit: Duration) -> Result<()> {
        let began = Instant::now();
        while self.evaluate(expression)? != json!(true) {
            if began.elapsed() > limit {
                let page = self.evaluate("document.body.innerText")?;
                bail!(
                    "waited in vain for {expression}; the page: {page}; complaints: {:?}",
                    self.complaints()
                );
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// What was asked for over the network so far.
    pub fn requests(&self) -> Vec<String> {
        let events = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        events.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// Exceptions, and what the console shows as an error or a warning.
    pub fn complaints(&self) -> Vec<String> {
        let is_bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(event["params"]["type"].as_str(), Some("error" | "warning"))
            }
            Some("Log.entryAdded") => {
                matches!(event["params"]["entry"]["level"].as_str(), Some("error" | "warning"))
            }
            _ => false,
        };
        self.events.iter().filter(is_bad).map(|event| event["params"].to_string()).collect()
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(page) = &self.page {
            message["sessionId"] = page.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.pipe.write_all(&bytes).with_context(|| self.log.tail())?;
        loop {
            let answer = self.messages.recv_timeout(LIMIT);
            let mut answer = answer.with_context(|| format!("{method}: no answer\n{}", self.log.tail()))?;
            if answer["id"] == self.last_id {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
            self.events.push(answer);
        }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// The program, by either name that Debian has for it.
fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let found = dirs.find_map(|dir| PROGRAMS.iter().map(|name| dir.join(name)).find(|file| file.is_file()));
    found.context("no Chromium found: run scripts/setup; these tests are never skipped")
}

const PROGRAMS: [&str; 2] = ["chromium-headless-shell", "chromium"];
const OPTIONS: [&str; 11] = [
    "--headless",
    "--remote-debugging-pipe",
    // The only pages are our own; and root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
];
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
