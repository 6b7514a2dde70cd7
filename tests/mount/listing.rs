//! Listings, while many list and change a directory.

use super::fixture::Place;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

const THREADS: usize = 8;
const CHANGES: usize = 400;
/// So many that a listing takes several requests.
const OTHERS: usize = 400;

/// The kernel's own memory of listings showed names that the same thread had removed, if several threads were listing.
#[test]
fn who_lists_sees_what_it_has_itself_made_and_removed() {
    let Some(place) = Place::mounted() else { return };
    let directory = place.at("shared");
    fs::create_dir(&directory).unwrap();
    (0..OTHERS).for_each(|other| drop(File::create(directory.join(format!("other{other}"))).unwrap()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let directory = &directory;
            scope.spawn(move || change_and_list(directory, thread));
        }
    });
}

fn change_and_list(directory: &Path, thread: usize) {
    let prefix = format!("{thread}-");
    let mut mine = BTreeSet::new();
    for change in 0..CHANGES {
        if change % 5 < 3 {
            let name = format!("{prefix}{change}");
            File::create(directory.join(&name)).unwrap();
            mine.insert(name);
        } else if let Some(name) = mine.pop_first() {
            fs::remove_file(directory.join(name)).unwrap();
        }
        let listed = fs::read_dir(directory).unwrap();
        let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: BTreeSet<String> = names.filter(|name| name.starts_with(&prefix)).collect();
        assert_eq!(found, mine, "after change {change}");
        if mine.len() > 20 {
            let name = mine.pop_first().unwrap();
            fs::remove_file(directory.join(name)).unwrap();
        }
    }
}
