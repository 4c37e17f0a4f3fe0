//! The servers of the matrix, and how a cell is run.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::clients::{self, Access, RustDump};
use super::{Cell, Client, Compression, Login, Plugin, Product, Transport};
use crate::certificates::{Authority, Certificate, Leaf};
use crate::client::{Endpoint, difference};
use crate::data::common;
use crate::server::{PASSWORD, USER};
use crate::{Fault, Server, Spillway, mariadb11, mysql9, process, spillway_bin};

/// All servers with the same data, for cells to be run one after the other or at the same time.
#[derive(Debug)]
pub struct Bench {
    authority: Authority,
    certificate: Certificate,
    servers: HashMap<Product, Server>,
    /// The direct dumps are in files here, as they are large all together.
    dir: tempfile::TempDir,
    rust: RustDump,
    /// How many accounts have a name.
    accounts: AtomicUsize,
}

/// What came of a cell; the error says what was wrong.
pub type Outcome = (Cell, Result<()>);

impl Bench {
    /// Starts the servers, fills them, and lets each client dump each of them directly.
    pub fn start(rust: RustDump) -> Result<Self> {
        spillway_bin();
        let authority = Authority::new("spillway test authority")?;
        let certificate = authority.issue(&Leaf::server())?;
        let servers = for_each(Product::ALL, |&product| -> Result<_> {
            let server = start(product, &certificate).with_context(|| product.to_string())?;
            Ok((product, server))
        });
        let servers = servers.into_iter().collect::<Result<HashMap<_, _>>>()?;
        let dir = tempfile::Builder::new().prefix("spillway-matrix-").tempdir()?;
        let bench = Self { authority, certificate, servers, dir, rust, accounts: AtomicUsize::new(0) };
        let pairs: Vec<_> = Product::ALL
            .iter()
            .flat_map(|&server| Client::ALL.iter().map(move |&client| (server, client)))
            .collect();
        for_each(&pairs, |&(server, client)| bench.dump_directly(server, client))
            .into_iter()
            .collect::<Result<()>>()?;
        Ok(bench)
    }

    /// Runs all of these, some at the same time; `done` hears of each.
    pub fn run_all(&self, cells: &[Cell], done: impl Fn(&Cell, &Result<()>) + Sync) -> Vec<Outcome> {
        for_each(cells, |cell| {
            let result = self.run(cell);
            done(cell, &result);
            (*cell, result)
        })
    }

    /// An error where the dump fails or is not the direct one, or where the cell was not what it says.
    pub fn run(&self, cell: &Cell) -> Result<()> {
        let server = self.server(cell.server)?;
        let account = Account::create(server, cell, self.accounts.fetch_add(1, Ordering::Relaxed))?;
        let dir = tempfile::Builder::new().prefix("spillway-cell-").tempdir()?;
        let back = Side::new(cell.back, cell.back_compression, server.tcp(), server.unix())?;
        let spillway = self.spillway(cell, &account, &back.endpoint, dir.path())?;
        let reached = spillway.endpoint().clone();
        let front = Side::new(cell.front, cell.front_compression, reached.clone(), reached)?;
        let access = Access {
            endpoint: &front.endpoint,
            user: &account.name,
            ca: (cell.front == Transport::Tls).then(|| self.authority.file()),
            compression: cell.front_compression,
            native: cell.login == Login::Passthrough,
        };
        let dump = clients::dump(cell.client, &access, self.rust)
            .map_err(|error| anyhow!("{error:#}\nSpillway's log:\n{}", spillway.log().tail()))?;
        let direct = fs::read(self.direct(cell.server, cell.client))?;
        if let Some(difference) = difference(&direct, &dump) {
            bail!("not the direct dump: {difference}");
        }
        front.was_compressed().context("between client and Spillway")?;
        back.was_compressed().context("between Spillway and server")
    }

    /// A server's version, as it tells it.
    pub fn version(&self, product: Product) -> Result<String> {
        let version = self.server(product)?.query("SELECT VERSION()")?.concat();
        Ok(version.split('-').next().unwrap_or_default().to_owned())
    }

    fn server(&self, product: Product) -> Result<&Server> {
        self.servers.get(&product).with_context(|| format!("no {product}"))
    }

    fn direct(&self, server: Product, client: Client) -> PathBuf {
        self.dir.path().join(format!("{server:?}-{client:?}"))
    }

    fn dump_directly(&self, server: Product, client: Client) -> Result<()> {
        let (endpoint, compression) = (self.server(server)?.unix(), Compression::Off);
        let access = Access { endpoint: &endpoint, user: USER, ca: None, compression, native: true };
        let dump = clients::dump(client, &access, self.rust)
            .with_context(|| format!("a direct dump of {server} by {client}"))?;
        fs::write(self.direct(server, client), dump)?;
        Ok(())
    }

    /// One of the cell's own.
    fn spillway(&self, cell: &Cell, account: &Account<'_>, back: &Endpoint, dir: &Path) -> Result<Spillway> {
        let mut options = Vec::new();
        if cell.front == Transport::Tls {
            // Not every client insists on TLS.
            options.push("--tls=required".to_owned());
            options.extend([self.certificate.option("tls-cert"), self.certificate.option("tls-key")]);
        }
        if cell.back == Transport::Tls {
            options.push("--upstream-tls=verify-identity".to_owned());
            options.push(format!("--upstream-tls-ca={}", self.authority.file().display()));
        } else {
            options.push("--upstream-tls=off".to_owned());
        }
        if cell.back_compression != Compression::Off {
            options.push(format!("--upstream-compression={}", cell.back_compression));
        }
        if cell.back == Transport::Tcp {
            options.push("--get-server-public-key".to_owned());
        }
        if cell.back == Transport::Socket {
            options.push("--allow-socket-upstream".to_owned());
        }
        if cell.login == Login::Stored {
            let file = dir.join("credentials");
            account.write_to(&file)?;
            options.extend(["--auth=stored".to_owned(), format!("--credentials={}", file.display())]);
        }
        let listen = match cell.front {
            Transport::Socket => format!("unix:{}", dir.join("s").display()),
            Transport::Tcp | Transport::Tls => "127.0.0.1:0".to_owned(),
        };
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Spillway::to(back).listen(&listen).options(&options).start()
    }
}

fn start(product: Product, certificate: &Certificate) -> Result<Server> {
    let tls = [certificate.option("ssl-cert"), certificate.option("ssl-key")];
    let mut options: Vec<&str> = tls.iter().map(String::as_str).collect();
    let server = match product {
        Product::MariaDb10 => {
            options.push("--plugin-load-add=auth_ed25519");
            Server::start(&options)
        }
        Product::MariaDb11 => {
            options.extend(mariadb11::PLUGINS);
            mariadb11::start(&options)
        }
        Product::MySql9 => mysql9::start(&options),
    }?;
    common::load(&server)?;
    Ok(server)
}

/// An account of a cell's own, so that what a server remembers of it is what the cell says; dropped with this.
struct Account<'a> {
    server: &'a Server,
    name: String,
}

impl<'a> Account<'a> {
    fn create(server: &'a Server, cell: &Cell, number: usize) -> Result<Self> {
        let name = format!("cell{number}");
        let password = PASSWORD.replace('\'', "''");
        let identified = match cell.plugin {
            Plugin::Native => format!("VIA mysql_native_password USING PASSWORD('{password}')"),
            Plugin::Ed25519 => format!("VIA ed25519 USING PASSWORD('{password}')"),
            Plugin::Parsec => format!("VIA parsec USING PASSWORD('{password}')"),
            Plugin::CachingSha2 | Plugin::CachingSha2Full if cell.server == Product::MariaDb11 => {
                format!("VIA caching_sha2_password USING PASSWORD('{password}')")
            }
            Plugin::CachingSha2 | Plugin::CachingSha2Full => {
                format!("WITH caching_sha2_password BY '{password}'")
            }
            Plugin::Sha256 => format!("WITH sha256_password BY '{password}'"),
        };
        // So the server has a word in it, whatever Spillway says.
        let require = if cell.back == Transport::Tls { "SSL" } else { "NONE" };
        server.sql(&format!(
            "CREATE USER {name}@'%' IDENTIFIED {identified} REQUIRE {require};
             GRANT ALL PRIVILEGES ON *.* TO {name}@'%';"
        ))?;
        let account = Self { server, name };
        if cell.plugin == Plugin::CachingSha2 {
            account.log_in().context("the first login")?;
        }
        Ok(account)
    }

    /// Has the server remember the password.
    fn log_in(&self) -> Result<()> {
        let mut mysql = mysql9::command("mysql", &self.server.tcp());
        mysql.arg("--ssl-mode=REQUIRED").arg(format!("--user={}", self.name));
        mysql.arg(format!("--password={PASSWORD}")).args(["--execute", "DO 0"]);
        process::run(&mut mysql, LIMIT)?.success()?;
        Ok(())
    }

    fn write_to(&self, file: &Path) -> Result<()> {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(file)?;
        write!(file, "[client]\nuser={}\npassword=\"{PASSWORD}\"\n", self.name)?;
        Ok(())
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let _ = self.server.sql(&format!("DROP USER {}@'%'", self.name));
    }
}

/// The way to a server or to Spillway. Where it is to be compressed, the bytes are counted on the way.
struct Side {
    endpoint: Endpoint,
    relay: Option<Fault>,
}

impl Side {
    fn new(transport: Transport, compression: Compression, tcp: Endpoint, unix: Endpoint) -> Result<Self> {
        match (transport, tcp) {
            (Transport::Tcp | Transport::Tls, Endpoint::Tcp(address)) if compression != Compression::Off => {
                let relay = Fault::start(address)?;
                Ok(Self { endpoint: Endpoint::Tcp(relay.address()), relay: Some(relay) })
            }
            (Transport::Tcp | Transport::Tls, tcp) => Ok(Self { endpoint: tcp, relay: None }),
            (Transport::Socket, _) => Ok(Self { endpoint: unix, relay: None }),
        }
    }

    /// Sockets are not looked into.
    fn was_compressed(&self) -> Result<()> {
        let Some(relay) = &self.relay else { return Ok(()) };
        let passed: u64 = (0..relay.connections()).map(|index| relay.passed(index)).sum();
        ensure!(passed < common::BIG_VALUE as u64 / 2, "{passed} bytes passed: too many for compressed ones");
        ensure!(passed > common::DENSE_VALUE as u64, "{passed} bytes passed: too few for a dump");
        Ok(())
    }
}

/// Does `work` for each of `items`, as many at a time as there are processors, and one more as servers do half of it.
fn for_each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(2, |count| count.get() + 1);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((number, item)) =
                    items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

const LIMIT: Duration = Duration::from_secs(30);
