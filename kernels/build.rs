//! Compiles every `*/kernel.cu`: to PTX with nvcc (feature `cuda`), for the processor with a C++ compiler (`emulated`).
//!
//! Without these features it does nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// PTX of this capability runs on every later device; attention on tensor cores wants 80.
const OLDEST: &str = "75";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=lib.rs"); // where a new folder enters
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    let (for_device, for_processor) = (has("CUDA"), has("EMULATED"));
    if !for_device && !for_processor {
        return Ok(());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let kernels = kernels()?;
    if for_device {
        println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
        println!("cargo::rerun-if-env-changed=CUDA_HOME");
        println!("cargo::rerun-if-changed=gpu");
        // Without the letter of 90a.
        let built = capability()?;
        let number = built.trim_end_matches(|c: char| !c.is_ascii_digit());
        println!("cargo::rustc-env=LETHE_CUDA_CAPABILITY={number}");
        for kernel in &kernels {
            ptx(kernel, &out)?;
        }
    }
    if for_processor {
        println!("cargo::rerun-if-changed=gpu");
        emulation(&kernels, &out)?;
    }
    Ok(())
}

/// Every kernel.cu, in order.
fn kernels() -> Result<Vec<PathBuf>, String> {
    let folders = std::fs::read_dir(".").map_err(|error| format!("kernels: {error}"))?;
    let folders = folders.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut kernels: Vec<PathBuf> = folders
        .map(|name| Path::new(&name).join("kernel.cu"))
        .filter(|path| path.is_file())
        .collect();
    kernels.sort();
    for kernel in &kernels {
        // With it whatever it includes of its own.
        println!("cargo::rerun-if-changed={}", kernel.parent().unwrap_or(kernel).display());
    }
    Ok(kernels)
}

/// `folder/kernel.cu` becomes `folder.ptx`.
fn ptx(kernel: &Path, out: &Path) -> Result<(), String> {
    let folder = kernel.parent().and_then(Path::file_name).ok_or("a kernel without a folder")?;
    let capability = capability()?;
    let nvcc = match std::env::var_os("CUDA_HOME") {
        Some(home) => PathBuf::from(home).join("bin").join("nvcc"),
        None => PathBuf::from("nvcc"),
    };
    let mut command = Command::new(&nvcc);
    command.args(["--ptx", "-O3", "--std=c++17", "-I", "gpu", "-arch"]);
    command.arg(format!("compute_{capability}")).arg(kernel).arg("-o");
    command.arg(out.join(folder).with_extension("ptx"));
    run(
        command,
        &format!(
            "{} of the CUDA toolkit, which the feature `cuda` needs: set CUDA_HOME, or put nvcc on the path",
            nvcc.display()
        ),
    )
}

/// The digits of `CUDA_COMPUTE_CAP`: "9.0" and "90" are one; where it is not set, what the machine's own devices have.
fn capability() -> Result<String, String> {
    let said = std::env::var("CUDA_COMPUTE_CAP").ok().or_else(of_this_machine);
    let said = said.unwrap_or_else(|| OLDEST.to_string());
    let digits: String = said.chars().filter(|&c| c != '.').collect();
    if digits.len() < 2 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("CUDA_COMPUTE_CAP: expected a capability such as 90, got `{said}`"));
    }
    Ok(digits)
}

/// That of the oldest device, such as "8.6".
fn of_this_machine() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    let done = command.args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    let found = text.lines().filter_map(|line| line.trim().parse::<f64>().ok());
    found.min_by(f64::total_cmp).map(|oldest| format!("{oldest:.1}"))
}

/// All kernels in one object, so that none is left out of the program.
fn emulation(kernels: &[PathBuf], out: &Path) -> Result<(), String> {
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let own = ["gpu/emulated.cpp", "gpu/control.cu"].map(PathBuf::from);
    let all = own.into_iter().chain(kernels.iter().cloned());
    let text: String =
        all.map(|path| format!("#include \"{}\"\n", here.join(path).display())).collect();
    let (source, object) = (out.join("emulated.cpp"), out.join("emulated.o"));
    std::fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    command.args([
        "-c",
        "-O2",
        "-std=c++17",
        "-fPIC",
        "-Wall",
        "-Wno-unknown-pragmas",
        "-U_FORTIFY_SOURCE",
        "-ffp-contract=fast",
    ]);
    command.args(["-DLETHE_EMULATED", "-I", "gpu"]).arg(&source).arg("-o").arg(&object);
    run(
        command,
        "a C++ compiler, which the feature `emulated` needs: put c++ on the path, or set CXX",
    )?;
    let mut command = Command::new("ar");
    command.arg("crs").arg(out.join("liblethe_emulated.a")).arg(&object);
    run(command, "ar, which the feature `emulated` needs")?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=lethe_emulated");
    println!("cargo::rustc-link-lib=dylib=stdc++");
    Ok(())
}

/// `needed` says what is missing where the program is not there.
fn run(mut command: Command, needed: &str) -> Result<(), String> {
    match command.output() {
        Err(error) => Err(format!("cannot run {needed} ({error})")),
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "{:?} failed: {}",
            command.get_program(),
            String::from_utf8_lossy(&done.stderr).replace('\n', " | ")
        )),
    }
}
