//! Listings, while many list and change a directory.

use super::fixture::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

const THREADS: usize = 8;
const CHANGES: usize = 400;
/// So many that a listing takes several requests.
const OTHERS: usize = 400;
/// More than the filesystem remembers the positions of.
const READERS: usize = 40;
/// So many that each of those comes back several times.
const NAMES: usize = 4000;

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

/// A reader whose position was forgotten is looked for. What stays it sees once; or, if the name that it stopped at has gone meanwhile, perhaps once more.
#[test]
fn more_readers_than_are_remembered_see_each_name_that_stays() {
    let Some(place) = Place::mounted() else { return };
    for removing in [false, true] {
        let directory = place.at(&format!("removing-{removing}"));
        fs::create_dir(&directory).unwrap();
        for name in 0..NAMES {
            let sort = if name % 4 == 0 { "goes" } else { "stays" };
            File::create(directory.join(format!("{sort}-{name}"))).unwrap();
        }
        let mut readers: Vec<_> = (0..READERS).map(|_| fs::read_dir(&directory).unwrap()).collect();
        let mut seen = vec![BTreeMap::new(); READERS];
        for round in 0..NAMES {
            let mut goes_on = false;
            for (reader, seen) in readers.iter_mut().zip(&mut seen) {
                for entry in reader.take(20) {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    *seen.entry(name).or_insert(0) += 1;
                    goes_on = true;
                }
            }
            if !goes_on {
                break;
            }
            File::create(directory.join(format!("comes-{round}"))).unwrap();
            for name in (0..NAMES / 40).map(|name| (round * NAMES / 40 + name) * 4) {
                if removing && name < NAMES {
                    fs::remove_file(directory.join(format!("goes-{name}"))).unwrap();
                }
            }
        }
        for seen in seen {
            let mut times =
                (0..NAMES).filter(|name| name % 4 != 0).map(|name| seen.get(&format!("stays-{name}")));
            assert!(
                times.all(|times| times.is_some_and(|times| removing || *times == 1)),
                "removing: {removing}"
            );
        }
    }
}
