//! The packets of a login, found in what went over a connection.

use anyhow::{Context as _, Result};

use super::Direction;

/// The packets of a login in their order, from the greeting to the OK (or ERR).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// All of both directions.
    pub packets: Vec<Packet>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub direction: Direction,
    /// Its bytes, the header's four among them.
    pub size: u64,
    /// The first byte of its payload; of an empty one, 0.
    pub first: u8,
}

impl Handshake {
    /// Bytes of the greeting.
    pub fn greeting(&self) -> u64 {
        self.packets.first().map_or(0, |packet| packet.size)
    }

    /// Bytes of the AuthSwitchRequest, where there was one.
    pub fn auth_switch(&self) -> Option<u64> {
        Some(self.packets.iter().find(|packet| packet.is_from_server() && packet.first == 0xfe)?.size)
    }

    /// Bytes of the OK (or ERR) that ends it.
    pub fn end(&self) -> u64 {
        self.packets.last().map_or(0, |packet| packet.size)
    }

    /// All bytes of one direction: a cut after less than `total(FromServer)` of them hits the login.
    pub fn total(&self, direction: Direction) -> u64 {
        self.sizes(direction).sum()
    }

    /// The offsets in one direction at which a packet ends.
    pub fn ends(&self, direction: Direction) -> Vec<u64> {
        let mut sum = 0;
        self.sizes(direction).map(|size| (sum += size, sum).1).collect()
    }

    fn sizes(&self, direction: Direction) -> impl Iterator<Item = u64> {
        self.packets.iter().filter(move |packet| packet.direction == direction).map(|packet| packet.size)
    }

    /// From the first bytes of each direction. The packets' numbers tell their order.
    pub(super) fn of(heads: &[Vec<u8>; 2]) -> Result<Self> {
        let mut rest = heads.each_ref().map(Vec::as_slice);
        let mut packets: Vec<Packet> = Vec::new();
        while !packets.last().is_some_and(Packet::ends_login) {
            let number = u8::try_from(packets.len())?;
            let direction = [Direction::FromServer, Direction::ToServer]
                .into_iter()
                .find(|&direction| rest[direction as usize].get(3) == Some(&number))
                .with_context(|| format!("its packet {number} is missing"))?;
            let head = &mut rest[direction as usize];
            let size = 4 + (usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16);
            let (packet, later) = head
                .split_at_checked(size)
                .with_context(|| format!("its packet {number} is not complete"))?;
            *head = later;
            packets.push(Packet {
                direction,
                size: size as u64,
                first: packet.get(4).copied().unwrap_or_default(),
            });
        }
        Ok(Self { packets })
    }
}

impl Packet {
    fn is_from_server(&self) -> bool {
        self.direction == Direction::FromServer
    }

    fn ends_login(&self) -> bool {
        self.is_from_server() && matches!(self.first, 0 | 0xff)
    }
}
