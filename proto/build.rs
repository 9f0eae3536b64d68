//! Generates the Rust side of every message that Vouch speaks. Needs no protoc.

use std::{env, path::PathBuf};

use prost::Message;

const FILES: [&str; 7] = [
    "workload.proto",
    "envoy/auth.proto",
    "envoy/core.proto",
    "envoy/discovery.proto",
    "envoy/secret.proto",
    "envoy/tls.proto",
    "vouch/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For gRPC reflection.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // A key as shared bytes, so that its owner can wipe it.
    tonic_prost_build::configure()
        .bytes(".X509SVID.x509_svid_key")
        .btree_map(".envoy.service.auth.v3")
        .btree_map(".envoy.config.core.v3.Metadata")
        .compile_fds(descriptors)?;
    Ok(())
}
