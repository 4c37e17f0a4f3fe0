//! Connect, log in, quit, and again.

use std::rc::Rc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use spillway_tests::Server;

use crate::case::{Run, Subject};
use crate::client::Client;
use crate::stock::Stock;
use crate::way::Route;

/// One after the other.
pub(super) fn alone(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    prepare(stock, 1)
}

/// By eight clients at a time.
pub(super) fn eight(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    prepare(stock, 8)
}

fn prepare(stock: &mut Stock, clients: usize) -> Result<Box<dyn Subject>> {
    let each = stock.size().of(4_000, 400) / clients;
    Ok(Box::new(Connect { server: stock.server()?, clients, each }))
}

struct Connect {
    server: Rc<Server>,
    clients: usize,
    /// Connections that each client makes.
    each: usize,
}

impl Connect {
    fn all(&self) -> usize {
        self.clients * self.each
    }
}

impl Subject for Connect {
    fn title(&self) -> String {
        match self.clients {
            1 => format!("{} times connect, log in and quit", self.all()),
            clients => format!("{} times connect, log in and quit, {clients} at a time", self.all()),
        }
    }

    fn server(&self) -> Rc<Server> {
        Rc::clone(&self.server)
    }

    fn run(&mut self, route: &mut Route) -> Result<Run> {
        let (address, each) = (route.address(), self.each);
        let start = Instant::now();
        let clients: Vec<_> = (0..self.clients)
            .map(|_| thread::spawn(move || (0..each).try_for_each(|_| Client::login(address)?.quit())))
            .collect();
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let took = start.elapsed();
        route.settle(self.all())?;
        let figures = vec![("connects/s", self.all() as f64 / took.as_secs_f64())];
        Ok(Run { wall: took, figures, ..Run::default() })
    }
}
