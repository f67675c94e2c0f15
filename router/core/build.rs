//! Makes the types of `proto/`, without a protobuf compiler on the machine.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut schemas: Vec<PathBuf> = std::fs::read_dir("proto")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    schemas.sort();
    let descriptors = protox::compile(&schemas, ["proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        .include_file("wire.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
