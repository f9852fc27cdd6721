//! Which room may know which, and which may not know candle.
//!
//! An edge is a line in [`EDGES`]; adding one is a decision, and crates/README.md says why the rooms are cut so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Table;

/// Every room, and the rooms that it depends on, for building or for its tests.
const EDGES: [(&str, &[&str]); 16] = [
    ("kernels", &[]),
    ("models", &[]),
    ("candlex", &["kernels"]),
    ("data", &[]),
    ("continual", &[]),
    ("ledger", &[]),
    ("diffusion", &["candlex", "kernels"]),
    ("hopfield", &["candlex", "kernels"]),
    ("layers", &["candlex", "kernels"]),
    ("report", &["ledger"]),
    ("pixel", &["diffusion", "layers", "candlex", "models"]),
    ("latent", &["diffusion", "layers", "candlex", "models"]),
    ("vector", &["diffusion", "layers", "candlex", "kernels"]),
    ("probe", &["diffusion", "hopfield", "candlex", "ledger"]),
    ("train", &["diffusion", "candlex", "kernels", "continual", "ledger", "data"]),
    (
        "lethe",
        &[
            "kernels",
            "models",
            "candlex",
            "data",
            "continual",
            "ledger",
            "diffusion",
            "hopfield",
            "layers",
            "report",
            "pixel",
            "latent",
            "vector",
            "probe",
            "train",
        ],
    ),
];

/// Rooms in which there are no tensors: candle is not even built for them.
const WITHOUT_CANDLE: [&str; 5] = ["data", "continual", "ledger", "report", "models"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Table {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Manifests of all rooms, by the room's name.
fn manifests() -> BTreeMap<String, Table> {
    let workspace = read(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap().clone();
    let mut manifests = BTreeMap::from([("lethe".to_string(), workspace)]);
    for member in members.iter().map(|member| PathBuf::from(member.as_str().unwrap())) {
        let name = member.file_name().unwrap().to_str().unwrap().to_string();
        manifests.insert(name, read(&root().join(&member).join("Cargo.toml")));
    }
    manifests
}

/// Packages that a manifest names, of every kind and for every target.
///
/// `workspace`: the root's table of dependencies, where one may stand under another name.
fn dependencies(manifest: &Table, workspace: &Table) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                found.extend(table.iter().map(|(alias, given)| package(alias, given, workspace)));
            }
            "target" => {
                let targets = table.values().filter_map(toml::Value::as_table);
                found.extend(targets.flat_map(|target| dependencies(target, workspace)));
            }
            _ => {}
        }
    }
    found
}

/// The package behind a dependency that is written as `alias = given`.
fn package(alias: &str, given: &toml::Value, workspace: &Table) -> String {
    let is_inherited = given.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    let given = if is_inherited { workspace.get(alias).unwrap_or(given) } else { given };
    given.get("package").and_then(toml::Value::as_str).unwrap_or(alias).to_string()
}

/// The room of a package of ours.
fn room(package: &str) -> Option<&str> {
    if package == "lethe" { Some("lethe") } else { package.strip_prefix("lethe-") }
}

/// What is wrong with the edges of one room.
fn faults(name: &str, manifest: &Table, workspace: &Table) -> Vec<String> {
    let Some((_, allowed)) = EDGES.iter().find(|(room, _)| *room == name) else {
        return vec![format!("{name} is no room of the table in tests/architecture.rs")];
    };
    let dependencies = dependencies(manifest, workspace);
    let found: BTreeSet<&str> = dependencies.iter().filter_map(|package| room(package)).collect();
    let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
    let too_many =
        found.difference(&allowed).map(|other| format!("{name} must not depend on {other}"));
    let too_few = allowed.difference(&found).map(|other| {
        format!("{name} no longer depends on {other}: strike the edge from the table")
    });
    too_many.chain(too_few).collect()
}

fn workspace_dependencies(manifests: &BTreeMap<String, Table>) -> Table {
    manifests["lethe"]["workspace"]["dependencies"].as_table().unwrap().clone()
}

#[test]
fn rooms_know_whom_the_table_lets_them_know() {
    let manifests = manifests();
    let workspace = workspace_dependencies(&manifests);
    let faults: Vec<String> =
        manifests.iter().flat_map(|(name, manifest)| faults(name, manifest, &workspace)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let rooms: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(rooms, EDGES.iter().map(|(room, _)| *room).collect());
}

#[test]
fn every_package_bears_the_name_of_its_room() {
    for (name, manifest) in manifests() {
        let package = manifest["package"]["name"].as_str().unwrap();
        assert_eq!(room(package), Some(name.as_str()));
    }
}

/// A folder with a manifest that is no member would escape every law here.
#[test]
fn every_folder_with_a_manifest_is_a_room() {
    let crates =
        std::fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let folders: BTreeSet<String> = crates
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_string())
        .collect();
    let rooms: BTreeSet<String> = manifests().into_keys().collect();
    assert!(folders.is_subset(&rooms), "{folders:?} {rooms:?}");
}

/// A room's line in crates/README.md: its floor, and the rooms that it may use.
fn rows(map: &str) -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let rooms = |cell: &str| match cell {
        "–" => BTreeSet::new(),
        "all" => {
            EDGES.iter().map(|(room, _)| room.to_string()).filter(|room| room != "lethe").collect()
        }
        list => list.split(',').map(|room| room.trim().to_string()).collect(),
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let (Some(room), Some(uses)) = (cells.get(1), cells.last()) else { return None };
        let room = room.trim_matches('`').trim_start_matches("../").to_string();
        Some((room, (cells[0].parse().ok()?, rooms(uses))))
    };
    map.lines().filter_map(row).collect()
}

#[test]
fn the_map_shows_every_room_and_every_edge_downwards() {
    let path = root().join("crates/README.md");
    let map = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = rows(&map);
    for (room, edges) in EDGES {
        let (floor, uses) = rows
            .get(room)
            .unwrap_or_else(|| panic!("crates/README.md: the table has no line for {room}"));
        let edges: BTreeSet<String> = edges.iter().map(|room| room.to_string()).collect();
        assert_eq!(
            *uses, edges,
            "crates/README.md: what {room} may use, and the table of this law"
        );
        for lower in &edges {
            assert!(
                rows[lower].0 < *floor,
                "{room} must not depend on {lower}: it is on no lower floor"
            );
        }
    }
    assert_eq!(rows.len(), EDGES.len(), "crates/README.md: {:?}", rows.keys());
}

/// Packages that `package` needs, and those that they need, as Cargo resolved them.
fn reached(lock: &Table, package: &str) -> BTreeSet<String> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in lock["package"].as_array().unwrap() {
        let list = entry.get("dependencies").and_then(toml::Value::as_array);
        let names = list.into_iter().flatten().filter_map(toml::Value::as_str);
        // Two versions of one package are told apart as "name version"; here they are one.
        let names = names.filter_map(|name| name.split(' ').next());
        needs.entry(entry["name"].as_str().unwrap()).or_default().extend(names);
    }
    let (mut found, mut ahead) = (BTreeSet::new(), vec![package]);
    while let Some(package) = ahead.pop() {
        if found.insert(package.to_string()) {
            ahead.extend(needs.get(package).into_iter().flatten());
        }
    }
    found
}

#[test]
fn rooms_without_tensors_do_not_reach_candle() {
    let lock = read(&root().join("Cargo.lock"));
    let candle = |package: &str| -> Vec<String> {
        reached(&lock, package).into_iter().filter(|name| name.starts_with("candle")).collect()
    };
    for room in WITHOUT_CANDLE {
        let found = candle(&format!("lethe-{room}"));
        assert!(
            found.is_empty(),
            "{room} must not depend on candle, and reaches {}",
            found.join(", ")
        );
    }
    // The way is followed: through two rooms, probe reaches it.
    assert!(candle("lethe-probe").contains(&"candle-core".to_string()));
}

/// The control of the laws above.
#[test]
fn a_forbidden_edge_is_found_wherever_it_hides() {
    let workspace: Table =
        "policies = { path = \"crates/continual\", package = \"lethe-continual\" }"
            .parse()
            .unwrap();
    let allowed = "candlex.path = \"\"\n[dependencies]\nlethe-diffusion.workspace = true\n\
        lethe-hopfield.workspace = true\nlethe-candlex.workspace = true\nlethe-ledger.workspace = true\n";
    let faults = |more: &str| {
        let manifest: Table = format!("{allowed}{more}").parse().unwrap();
        faults("probe", &manifest, &workspace)
    };
    assert_eq!(faults(""), [""; 0]);
    let forbidden = ["probe must not depend on continual"];
    assert_eq!(faults("lethe-continual.workspace = true"), forbidden);
    assert_eq!(faults("policies.workspace = true"), forbidden);
    assert_eq!(
        faults("[dev-dependencies]\nlethe-continual = { path = \"../continual\" }"),
        forbidden
    );
    assert_eq!(faults("[build-dependencies]\nx = { package = \"lethe-continual\" }"), forbidden);
    assert_eq!(faults("[target.'cfg(unix)'.dependencies]\nlethe-continual = \"0.1\""), forbidden);
    assert_eq!(faults("lethe.workspace = true"), ["probe must not depend on lethe"]);
    let stale: Table = "[dependencies]\nlethe-ledger.workspace = true".parse().unwrap();
    let strike =
        |room| format!("probe no longer depends on {room}: strike the edge from the table");
    assert_eq!(
        self::faults("probe", &stale, &workspace),
        ["candlex", "diffusion", "hopfield"].map(strike)
    );
    assert_eq!(
        self::faults("attic", &stale, &workspace),
        ["attic is no room of the table in tests/architecture.rs"]
    );
}
