//! Tells the program which sources and which compiler it was made from.

use std::process::Command;

fn main() {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success());
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
            .unwrap_or_default()
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    println!("cargo:rustc-env=LETHE_RUSTC={}", output(&rustc, &["--version"]));
    // With what is not committed said, so that no run names a commit that it was not made from.
    let revision =
        output("git", &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    println!("cargo:rustc-env=LETHE_REVISION={revision}");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    for ours in ["Cargo.toml", "Cargo.lock", "crates", "kernels", "models"] {
        println!("cargo:rerun-if-changed={ours}");
    }
}
