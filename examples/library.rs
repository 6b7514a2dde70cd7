//! The engine without any filesystem: `cargo run --example library -- DIRECTORY`.

use bitkv::{Batch, Engine, EngineOptions};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("name a directory")?;
    let engine = Engine::open(&directory, EngineOptions::default())?;

    let visits = match engine.get(b"visits")? {
        Some(bytes) => String::from_utf8(bytes)?.parse::<u64>()?,
        None => 0,
    };
    let mut batch = Batch::new();
    batch.put("visits", (visits + 1).to_string()).put(format!("visit/{visits:05}"), "somebody was here");
    engine.commit(batch)?;
    engine.sync()?;

    println!("this is visit number {}; so far:", visits + 1);
    for key in engine.list(b"visit/")? {
        println!("  {}", String::from_utf8_lossy(&key));
    }
    let stats = engine.stats();
    println!(
        "{} keys, {} bytes of keydir, everything up to number {} is durable",
        stats.keys, stats.keydir_bytes, stats.stable
    );
    engine.close()?;
    Ok(())
}
