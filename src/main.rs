//! `bitkv-mount DATA MOUNTPOINT`: see `bitkv-mount --help`.

fn main() {
    std::process::exit(bitkv::cli::mount::run(std::env::args_os().collect()));
}
