//! What a process has in memory, as root can look at it.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

/// A part of a process's memory that it can write to.
#[derive(Clone, Debug)]
pub struct Region {
    addresses: Range<u64>,
    /// Whether a core dump has it.
    pub is_dumped: bool,
}

/// Where a process has what it can write to.
pub fn regions(pid: u32) -> Result<Vec<Region>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut regions: Vec<Region> = Vec::new();
    let mut is_wanted = false;
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if let Some(region) = regions.last_mut().filter(|_| is_wanted) {
                region.is_dumped = !flags.split_whitespace().any(|flag| flag == "dd");
            }
        } else if let Some((start, end)) = first.split_once('-') {
            is_wanted = rest.starts_with("rw");
            if is_wanted {
                let addresses = u64::from_str_radix(start, 16)?..u64::from_str_radix(end, 16)?;
                regions.push(Region { addresses, is_dumped: true });
            }
        }
    }
    Ok(regions)
}

/// Whether these bytes are anywhere in a process's memory, in regions like that.
pub fn holds(pid: u32, wanted: &[u8], looks: impl Fn(&Region) -> bool) -> Result<bool> {
    let memory = File::open(format!("/proc/{pid}/mem")).context("its memory")?;
    let mut piece = vec![0; PIECE];
    for Region { addresses, .. } in regions(pid)?.into_iter().filter(looks) {
        let mut at = addresses.start;
        while at < addresses.end {
            let len = (addresses.end - at).min(PIECE as u64) as usize;
            // It may have been given back meanwhile.
            let Ok(read) = memory.read_at(&mut piece[..len], at) else { break };
            if piece[..read].windows(wanted.len()).any(|window| window == wanted) {
                return Ok(true);
            }
            // What begins at the end of this piece is in the next one as a whole.
            let step = (read + 1).saturating_sub(wanted.len());
            if step == 0 {
                break;
            }
            at += step as u64;
        }
    }
    Ok(false)
}

const PIECE: usize = 1 << 20;
