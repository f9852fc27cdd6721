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
    println!("cargo:rustc-env=LETHE_REVISION={}", output("git", &["rev-parse", "HEAD"]));
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
}
