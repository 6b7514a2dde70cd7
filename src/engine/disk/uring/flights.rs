//! Operations under way on a ring: what each needs to stay alive, and what follows when the kernel is done with it. Belongs to whoever owns
//! the ring, a partition's worker or a thread that serves requests; it neither submits nor waits.
//!
//! Soundness of the rings rests on it: what the kernel writes to or reads from is owned by this table until its completion has been seen.
//! A table that is dropped before leaks what is under way.

use crate::engine::disk::{Done, FileHandle, Request};
use io_uring::{opcode, squeue, types};
use std::io;

/// An operation under way.
enum Flight {
    Read { file: FileHandle, offset: u64, buffer: Vec<u8>, filled: usize, done: Done<Vec<u8>> },
    Sync { file: FileHandle, done: Done<()> },
}

/// Operations under way, by number.
#[derive(Default)]
pub(crate) struct Flights {
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
}

/// What comes next.
pub(crate) enum Next {
    /// This entry is to be submitted. Its user data is the number of the operation.
    Submit(squeue::Entry),
    /// This is to be run: it may start anything.
    Run(Box<dyn FnOnce()>),
    /// Nothing.
    Nothing,
}

impl Flights {
    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.flights.len()
    }

    /// Takes a request.
    pub(crate) fn start(&mut self, request: Request) -> Next {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        // What a descriptor stands for has to stay open until the operation has ended.
        let opened = |file: FileHandle| {
            file.opened().and_then(|file| match file.descriptor() {
                Some(_) => Ok(file),
                None => Err(invalid()),
            })
        };
        match request {
            Request::Read { length: 0, done, .. } => Next::Run(Box::new(move || done(Ok(Vec::new())))),
            Request::Read { file, offset, length, done } => match opened(file) {
                Ok(file) => self.fly(Flight::Read { file, offset, buffer: vec![0; length], filled: 0, done }),
                Err(error) => Next::Run(Box::new(move || done(Err(error)))),
            },
            Request::Sync { file, done } => match opened(file) {
                Ok(file) => self.fly(Flight::Sync { file, done }),
                Err(error) => Next::Run(Box::new(move || done(Err(error)))),
            },
            Request::Job(job) => Next::Run(job),
        }
    }

    fn fly(&mut self, mut flight: Flight) -> Next {
        let number = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        let entry = match &mut flight {
            Flight::Read { file, offset, buffer, filled, .. } => {
                let rest = &mut buffer[*filled..];
                let descriptor = types::Fd(file.descriptor().unwrap_or(-1));
                let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                opcode::Read::new(descriptor, rest.as_mut_ptr(), length)
                    .offset(*offset + *filled as u64)
                    .build()
            }
            Flight::Sync { file, .. } => {
                let descriptor = types::Fd(file.descriptor().unwrap_or(-1));
                opcode::Fsync::new(descriptor).flags(types::FsyncFlags::DATASYNC).build()
            }
        };
        // The buffer's heap block stays where it is when the flight moves into the table.
        self.flights[number] = Some(flight);
        Next::Submit(entry.user_data(number as u64))
    }

    /// The operation with this number has completed.
    pub(crate) fn ended(&mut self, number: u64, result: i32) -> Next {
        let number = number as usize;
        let Some(flight) = self.flights.get_mut(number).and_then(Option::take) else { return Next::Nothing };
        self.free.push(number);
        let result =
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) };
        match flight {
            Flight::Sync { done, .. } => Next::Run(Box::new(move || done(result.map(|_| ())))),
            Flight::Read { file, offset, buffer, filled, done } => {
                self.read_ended(result, file, offset, buffer, filled, done)
            }
        }
    }

    /// A read may bring less than was asked for: it goes on until the buffer is full or the file ends.
    fn read_ended(
        &mut self,
        result: io::Result<usize>,
        file: FileHandle,
        offset: u64,
        mut buffer: Vec<u8>,
        filled: usize,
        done: Done<Vec<u8>>,
    ) -> Next {
        match result {
            Ok(0) => {
                buffer.truncate(filled);
                Next::Run(Box::new(move || done(Ok(buffer))))
            }
            Ok(count) if filled + count >= buffer.len() => Next::Run(Box::new(move || done(Ok(buffer)))),
            Ok(count) => self.fly(Flight::Read { file, offset, buffer, filled: filled + count, done }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                self.fly(Flight::Read { file, offset, buffer, filled, done })
            }
            Err(error) => Next::Run(Box::new(move || done(Err(error)))),
        }
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        // Only when a ring has failed: the kernel may still write there.
        self.flights.drain(..).for_each(std::mem::forget);
    }
}
