//! Each promise of `src/fs/README.md` names tests, and they exist.

use std::fs;
use std::path::Path;

/// Rows of the table of promises: what is promised, and its tests.
fn promises(text: &str) -> Vec<(&str, &str)> {
    let table = text.lines().skip_while(|line| !line.starts_with("| promise | test |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').rsplit_once('|').expect("two columns")).collect()
}

/// Everything between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// `a/{b,c}.d` is `a/b.d` and `a/c.d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_string()] };
    let (choices, behind) = rest.split_once('}').expect("a closing brace");
    choices.split(',').map(|choice| format!("{before}{choice}{behind}")).collect()
}

/// The text of all code below a directory.
fn code(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &code(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = fs::read_to_string("src/fs/README.md").unwrap();
    let code = code(Path::new("src")) + &code(Path::new("tests"));
    let exists = |name: &str| match name.split(' ').find(|word| word.contains('/')) {
        Some(path) => expanded(path).iter().all(|path| Path::new(path).exists()),
        None => code.contains(&format!("fn {name}()")),
    };
    let promises = promises(&text);
    assert!(promises.len() > 20, "the table isn't found: {promises:?}");
    for (promise, tests) in promises {
        assert!(tests.contains('`') || tests.contains("the same"), "without a test: {promise}");
        for name in quoted(tests) {
            assert!(exists(name), "{name}, which shows that{promise}, doesn't exist");
        }
    }
}
