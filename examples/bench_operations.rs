//! What operations of a filesystem cost without the kernel's part: requests go from one thread straight to what serves a mount's
//! (`bench_operations [DIRECTORY] [--rounds N] [--files N]`), the store lies on a real disk. Prints p50 and p10 in microseconds. What a mount takes longer is
//! the kernel and the transport (`examples/floor`).

use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Config, Durability, Policy, World};
use bitkv::fs::control::Control;
use bitkv::fs::control::source::VolumeSource;
use bitkv::fs::traffic::Traffic;
use bitkv::fs::transport::dispatch::{Dispatch, Reply, Serve, Value};
use bitkv::fs::transport::request::{Listing, Request};
use bitkv::fs::types::*;
use bitkv::fs::{Volume, VolumeConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

const SMALL_BYTES: usize = 1024;
const BLOCK_BYTES: usize = 4096;
const BLOCKS: u64 = 1024;
/// From one file to the next, where they are visited in no order.
const STRIDE: usize = 12_347;
const ROOT: Caller = Caller { uid: 0, gid: 0 };

/// The answer, and the room that came with the question.
type Answers = Arc<Mutex<Option<(Answer<Value>, Vec<u8>)>>>;

/// Where an answer goes.
struct Asked {
    answers: Answers,
    room: Vec<u8>,
}

impl Reply for Asked {
    fn answer(self, answer: Answer<Value>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer, self.room));
    }
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.room[..bytes]
    }
    fn filled(self, count: Answer<usize>) {
        self.answer(count.map(|count| Value::Count(count as u32)));
    }
    fn names(self, _: Inode, _: Listing, _: &[Entry]) -> usize {
        0
    }
}

struct Bench {
    dispatch: Dispatch,
    answers: Answers,
    times: BTreeMap<&'static str, Vec<u64>>,
    /// An answer's bytes go here, over and over, as they go into an entry of the ring.
    room: Vec<u8>,
}

impl Bench {
    fn ask(&mut self, work: &'static str, inode: Inode, request: Request) -> Value {
        let reply = Asked { answers: self.answers.clone(), room: std::mem::take(&mut self.room) };
        let started = Instant::now();
        self.dispatch.serve(ROOT, inode, request, reply);
        let (answer, room) = loop {
            if let Some(answered) = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take() {
                break answered;
            }
            std::thread::yield_now();
        };
        self.times.entry(work).or_default().push(started.elapsed().as_nanos() as u64);
        self.room = room;
        answer.unwrap_or_else(|error| panic!("{work}: {error:?}"))
    }

    fn create(&mut self, name: String) -> Inode {
        let new = NewInode { kind: Kind::File, permissions: 0o644, umask: 0, device: 0, target: Vec::new() };
        match self.ask("create", Inode::ROOT, Request::Create { name: name.into_bytes(), new }) {
            Value::Created(attributes) => attributes.inode,
            _ => panic!("nothing was created"),
        }
    }

    fn write(&mut self, work: &'static str, inode: Inode, offset: u64, bytes: usize) {
        let data = vec![7; bytes];
        self.ask(work, inode, Request::Write { offset, data, kill_set_id: false, held_back: false });
    }

    /// The next look at them is the first again.
    fn let_go(&mut self, inodes: &[Inode]) {
        for inode in inodes {
            self.dispatch.forget(*inode, 1);
        }
    }

    fn round(&mut self, files: usize) {
        let inodes: Vec<Inode> = (0..files)
            .map(|i| {
                let inode = self.create(format!("file {i}"));
                self.write("write 1 KiB", inode, 0, SMALL_BYTES);
                inode
            })
            .collect();
        for inode in &inodes {
            self.ask("getattr", *inode, Request::GetAttributes);
        }
        for inode in &inodes {
            self.ask("read 1 KiB", *inode, Request::Read { offset: 0, size: SMALL_BYTES as u32 });
        }
        let anywhere = |i: usize| i.wrapping_mul(STRIDE) % files;
        for i in (0..files).map(anywhere) {
            self.ask(
                "read 1 KiB, anywhere",
                inodes[i],
                Request::Read { offset: 0, size: SMALL_BYTES as u32 },
            );
        }
        self.let_go(&inodes);
        for i in 0..files {
            self.ask(
                "lookup, first",
                Inode::ROOT,
                Request::Lookup { name: format!("file {i}").into_bytes() },
            );
        }
        self.let_go(&inodes);
        for i in (0..files).map(anywhere) {
            let name = format!("file {i}").into_bytes();
            self.ask("lookup, first, anywhere", Inode::ROOT, Request::Lookup { name });
        }
        for i in 0..files {
            self.ask(
                "rename",
                Inode::ROOT,
                Request::Rename {
                    name: format!("file {i}").into_bytes(),
                    new_parent: Inode::ROOT,
                    new_name: format!("renamed {i}").into_bytes(),
                    mode: RenameMode::Replace,
                },
            );
        }
        for i in 0..files {
            self.ask("lookup", Inode::ROOT, Request::Lookup { name: format!("renamed {i}").into_bytes() });
            self.ask("lookup, none", Inode::ROOT, Request::Lookup { name: format!("file {i}").into_bytes() });
            self.ask("getattr of /", Inode::ROOT, Request::GetAttributes);
        }
        for (i, inode) in inodes.iter().enumerate() {
            self.ask("unlink", Inode::ROOT, Request::Unlink { name: format!("renamed {i}").into_bytes() });
            let started = Instant::now();
            self.dispatch.forget(*inode, 2);
            self.times.entry("forget").or_default().push(started.elapsed().as_nanos() as u64);
        }
    }

    fn blocks(&mut self, large: Inode, round: u64, count: usize) {
        let block = |i: u64| (i + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCKS * BLOCK_BYTES as u64;
        for i in 0..count as u64 {
            self.ask("read 4 KiB", large, Request::Read { offset: block(i), size: BLOCK_BYTES as u32 });
        }
        for i in 0..count as u64 {
            self.write("overwrite 4 KiB", large, block(i), BLOCK_BYTES);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut rounds, mut files, mut place) = (5, 2000, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().ok_or("a number is missing")?.parse::<usize>().map_err(|e| e.to_string());
        match argument.as_str() {
            "--rounds" => rounds = number()?,
            "--files" => files = number()?,
            _ => place = Some(argument),
        }
    }
    let scratch = match place {
        Some(place) => tempfile::tempdir_in(place)?,
        None => tempfile::tempdir()?,
    };
    let data = scratch.path().join("data");
    let disk = UringDisk::open(&data, 2, false)?;
    let seed = disk.random_seed()?;
    let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
    let config = Config { create: true, durability: Durability::Explicit, ..Config::default() };
    let settings = VolumeConfig { blocking_threads_max: 1, ..VolumeConfig::default() };
    let volume = Volume::open(world, config, settings)?;
    let traffic = Traffic::new(volume.store().clock().clone(), volume.store().partition_count());
    let source = VolumeSource::new(volume.clone(), traffic.clone(), None, data);
    let control = Arc::new(Control::new(Box::new(source), 0, 0));
    let dispatch = Dispatch::new(volume.clone(), control, traffic, false);
    let mut bench =
        Bench { dispatch, answers: Answers::default(), times: BTreeMap::new(), room: vec![0; BLOCK_BYTES] };
    let large = bench.create("large".to_string());
    for block in 0..BLOCKS {
        bench.write("write 4 KiB", large, block * BLOCK_BYTES as u64, BLOCK_BYTES);
    }
    for round in 0..rounds {
        bench.round(files);
        bench.blocks(large, round as u64, files);
    }
    println!("{:24} {:>8} {:>8}", "us", "p50", "p10");
    for (work, mut times) in bench.times {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100] as f64 / 1e3;
        println!("{work:24} {:8.2} {:8.2}", at(50), at(10));
    }
    volume.close().map_err(|error| std::io::Error::from_raw_os_error(error.0))?;
    Ok(())
}
