//! Numbers as people read them.

use std::collections::BTreeMap;

/// The one in the middle; NaN if there is none.
pub fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Results by work (in the order of their coming) and engine.
#[derive(Default)]
pub struct Table {
    works: Vec<String>,
    cells: BTreeMap<(String, String), Vec<f64>>,
}

impl Table {
    pub fn add(&mut self, work: &str, engine: &str, number: f64) {
        if !self.works.iter().any(|known| known == work) {
            self.works.push(work.to_string());
        }
        self.cells.entry((work.to_string(), engine.to_string())).or_default().push(number);
    }

    /// Markdown, medians; a dash where there is nothing.
    pub fn print(&mut self, engines: &[String]) {
        println!("| | {} |", engines.join(" | "));
        println!("|---|{}", "---|".repeat(engines.len()));
        for work in &self.works {
            let cells = engines.iter().map(|engine| {
                let numbers = self.cells.get_mut(&(work.clone(), engine.clone()));
                numbers.map_or("-".to_string(), |numbers| readable(median(numbers)))
            });
            println!("| {work} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}

fn readable(number: f64) -> String {
    match number {
        0.0 => "0".to_string(),
        ..10.0 => format!("{number:.3}"),
        ..1000.0 => format!("{number:.1}"),
        _ => {
            let digits = format!("{number:.0}");
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
            groups.join(",")
        }
    }
}
