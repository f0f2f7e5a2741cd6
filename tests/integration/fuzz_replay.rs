//! The fuzz targets' bodies over their seeds: what a fuzzer once found stays fixed.

#[allow(unreachable_pub)] // public for the fuzz crate
#[path = "../../fuzz/src/bodies/mod.rs"]
mod bodies;

use std::path::Path;

#[test]
fn every_seed_of_every_fuzz_target_holds_its_promise() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (target, _) in bodies::TARGETS {
        let folder = std::fs::read_dir(seeds.join(target));
        let folder = folder.unwrap_or_else(|error| panic!("the seeds of {target}: {error}"));
        let mut count = 0;
        for entry in folder {
            let path = entry.expect("an entry").path();
            let input = std::fs::read(&path).expect("a seed");
            println!("{}", path.display());
            bodies::run(target, &input);
            // Every beginning of a seed is an input of its own.
            for end in (0..input.len()).step_by(input.len() / 64 + 1) {
                bodies::run(target, &input[..end]);
            }
            count += 1;
        }
        assert!(count >= 3, "{target} has {count} seeds");
    }
}
