//! `bitkv completions SHELL`: what a shell has to know to complete the command lines of both programs.

use super::{control, finish, mount};
use clap_complete::{Shell, generate};

/// Writes it for `bitkv`, whose command line is `command`, and for `bitkv-mount`; returns the exit code.
pub fn run(mut command: clap::Command, shell: Shell) -> i32 {
    let mut out = Vec::new();
    generate(shell, &mut command, "bitkv", &mut out);
    generate(shell, &mut mount::command(), "bitkv-mount", &mut out);
    finish("bitkv completions", control::print_bytes(&out))
}
