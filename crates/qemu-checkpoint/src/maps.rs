//! A process's memory: what is mapped where, and which pages of it are its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::trace::Traced;
use super::{Content, PAGE, Region, unfit};

/// How far below its stack a process's first thread may come to write, in bytes: the usual limit (getrlimit(2)).
const STACK: u64 = 8 << 20;

/// How many pages that were never written to are kept between others, to have fewer mappings.
const GAP: usize = 32;

/// What is copied at once, in bytes.
const BLOCK: u64 = 1 << 20;

/// A line of /proc/PID/maps (proc_pid_maps(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) start: u64,
    pub(super) end: u64,
    protection: u64,
    shared: bool,
    offset: u64,
    /// The file, or the kernel's name for it in brackets; empty for memory of no name.
    pub(super) name: String,
}

impl Map {
    /// Returns what is mapped in a process.
    pub(super) fn all(pid: i32) -> io::Result<Vec<Self>> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let line = |line| Self::parse(line).ok_or_else(|| unfit(format!("not understood: {line}")));
        text.lines().map(line).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let flags = words.next()?.as_bytes();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let offset = hex(words.next()?)?;
        let (_device, _inode) = (words.next()?, words.next()?);
        let name = words.next().unwrap_or_default().trim_start().to_owned();
        let bit = |at: usize, letter: u8| u64::from(flags.get(at) == Some(&letter)) << at;
        let protection = bit(0, b'r') | bit(1, b'w') | bit(2, b'x');
        let shared = flags.get(3) == Some(&b's');
        Some(Self { start: hex(start)?, end: hex(end)?, protection, shared, offset, name })
    }

    /// Tells whether the kernel maps it into every process.
    pub(super) fn is_kernels(&self) -> bool {
        self.name.starts_with("[v")
    }

    fn is_writable(&self) -> bool {
        self.protection & 2 != 0
    }

    fn file(&self) -> Option<&Path> {
        self.name.starts_with('/').then(|| Path::new(&self.name))
    }

    fn region(&self, pages: std::ops::Range<usize>, content: Content) -> Region {
        let at = |page: usize| self.start + page as u64 * PAGE;
        Region { start: at(pages.start), end: at(pages.end), protection: self.protection, content }
    }
}

/// Returns the memory of a process, and writes what only this process knows of it to a file; `shared` is the one
/// file that it may share with others.
pub(super) fn save(
    traced: &Traced,
    maps: &[Map],
    shared: &Path,
    pages: &File,
) -> io::Result<Vec<Region>> {
    let pagemap = File::open(format!("/proc/{}/pagemap", traced.pid))?;
    let mut regions = Vec::new();
    let mut saved = 0;
    for map in maps.iter().filter(|map| !map.is_kernels()) {
        if map.shared && map.file() == Some(shared) {
            regions.push(map.region(0..pages_in(map)?, Content::Shared(map.offset)));
            continue;
        }
        // What nobody writes to is shared as well when it is mapped privately.
        if map.shared && (map.is_writable() || map.file().is_none()) {
            return Err(unfit(format!("it shares memory: {}", map.name)));
        }
        if map.name.ends_with(" (deleted)") {
            return Err(unfit(format!("it uses a file that is gone: {}", map.name)));
        }
        let own = own_pages(map, &pagemap)?;
        for (range, own) in runs(&own) {
            let content = match map.file() {
                _ if own => Content::Saved(saved),
                Some(file) => {
                    Content::File(file.to_owned(), map.offset + range.start as u64 * PAGE)
                }
                None => Content::Zeros,
            };
            let region = map.region(range, content);
            if own {
                copy(traced, &region, pages, saved)?;
                saved += region.end - region.start;
            }
            regions.push(region);
        }
        if map.name == "[stack]" {
            let (start, end) = (map.start - STACK, map.start);
            regions.push(Region {
                start,
                end,
                protection: map.protection,
                content: Content::Zeros,
            });
        }
    }
    Ok(regions)
}

/// Returns where the memory is that grows by brk(2).
pub(super) fn heap(maps: &[Map]) -> Option<(u64, u64)> {
    let mut parts = maps.iter().filter(|map| map.name == "[heap]");
    let first = parts.next()?;
    Some((first.start, parts.next_back().unwrap_or(first).end))
}

/// Returns the files of programs and libraries that are mapped.
pub(super) fn files(regions: &[Region]) -> Vec<PathBuf> {
    let file = |region: &Region| match &region.content {
        Content::File(path, _) => Some(path.clone()),
        _ => None,
    };
    let mut files: Vec<_> = regions.iter().filter_map(file).collect();
    files.sort();
    files.dedup();
    files
}

fn pages_in(map: &Map) -> io::Result<usize> {
    usize::try_from((map.end - map.start) / PAGE).map_err(io::Error::other)
}

/// Tells of each page whether its content is known to this process only.
fn own_pages(map: &Map, pagemap: &File) -> io::Result<Vec<bool>> {
    let mut bits = vec![0; pages_in(map)? * 8];
    pagemap.read_exact_at(&mut bits, map.start / PAGE * 8)?;
    let (words, _) = bits.as_chunks();
    let mut own: Vec<bool> =
        words.iter().map(|word| is_own(u64::from_ne_bytes(*word), map.file().is_some())).collect();
    if map.file().is_none() {
        fill_gaps(&mut own);
    }
    Ok(own)
}

/// Reads a word of /proc/PID/pagemap (proc_pid_pagemap(5)): bits 63 and 62 say that the page is there, or swapped out, bit
/// 61 that it is a file's.
fn is_own(word: u64, of_file: bool) -> bool {
    word >> 62 != 0 && !(of_file && word >> 61 & 1 == 1)
}

fn fill_gaps(own: &mut [bool]) {
    let mut last = None;
    for at in 0..own.len() {
        if own[at] {
            if let Some(last) = last
                && at - last <= GAP
            {
                own[last..at].fill(true);
            }
            last = Some(at);
        }
    }
}

/// Returns what lies together.
fn runs(own: &[bool]) -> Vec<(std::ops::Range<usize>, bool)> {
    let mut start = 0;
    own.chunk_by(|a, b| a == b)
        .map(|run| {
            let range = start..start + run.len();
            start = range.end;
            (range, run[0])
        })
        .collect()
}

fn copy(traced: &Traced, region: &Region, pages: &File, mut to: u64) -> io::Result<()> {
    let mut from = region.start;
    let mut buffer = Vec::new();
    while from < region.end {
        let length = (region.end - from).min(BLOCK);
        buffer.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        traced.read(from, &mut buffer)?;
        pages.write_all_at(&buffer, to)?;
        from += length;
        to += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_blanks_in_its_name() {
        let line =
            "7f0000001000-7f0000003000 r-xp 00002000 08:01 42                         /lib/a b.so";
        let map = Map::parse(line).unwrap();
        assert_eq!(
            (map.start, map.end, map.protection, map.shared),
            (0x7f00_0000_1000, 0x7f00_0000_3000, 5, false)
        );
        assert_eq!((map.offset, map.file()), (0x2000, Some(Path::new("/lib/a b.so"))));
        let stack = Map::parse("7ffc0000-7ffd0000 rw-p 00000000 00:00 0 [stack]").unwrap();
        assert_eq!((stack.file(), stack.protection), (None, 3));
        assert_eq!(Map::parse("7ffc0000 rw-p"), None);
    }

    #[test]
    fn a_page_is_a_process_s_own_from_when_it_has_written_to_it() {
        let (there, swapped, of_file) = (1 << 63, 1 << 62, 1 << 61);
        assert!(is_own(there, false) && is_own(swapped, false) && is_own(there, true));
        assert!(!is_own(0, false) && !is_own(there | of_file, true) && !is_own(0, true));
    }

    #[test]
    fn small_gaps_are_kept_and_large_ones_left_out() {
        let mut own = vec![false; 100];
        own[10] = true;
        own[20] = true;
        own[90] = true;
        fill_gaps(&mut own);
        assert_eq!(
            runs(&own),
            [(0..10, false), (10..21, true), (21..90, false), (90..91, true), (91..100, false)]
        );
    }
}
