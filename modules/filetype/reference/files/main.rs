use std::collections::HashMap;

#[derive(Debug, Clone)]
struct Bird {
    name: String,
    mass: f64,
}

impl Bird {
    fn new(name: &str, mass: f64) -> Self {
        Bird { name: name.to_owned(), mass }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let birds: HashMap<_, _> = [("bee", 2.0), ("giant", 20.0)].into_iter().map(|(n, m)| (n, Bird::new(n, m))).collect();
    for (name, bird) in &birds {
        println!("{name}: {bird:?}");
    }
    Ok(())
}
