//! The folders of `src/` are layers: each uses itself and the ones before it, and no files import each other in a circle.

#![allow(clippy::unwrap_used)] // a failed step is a failed test
#![allow(clippy::disallowed_methods)] // reads the sources

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The order, lowest first. ARCHITECTURE.md describes the layers; this list is their only definition.
const LAYERS: [&str; 9] =
    ["foundation", "plan", "decode", "event", "matching", "window", "detect", "keyed", "engine"];

/// Module path (`detect::baseline`) → source text without its tests.
type Sources = BTreeMap<Vec<String>, String>;

fn read_sources(folder: &Path, module: &[String], sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            read_sources(&path, &[module, &[stem]].concat(), sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = if stem == "mod" { module.to_vec() } else { [module, &[stem]].concat() };
            let text = fs::read_to_string(&path).unwrap();
            sources.insert(name, without_tests(&text));
        }
    }
}

/// The code of a file: without comments, and without its test module, which may import anything.
fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of `text` that starts with `root`, with groups in braces written out.
fn paths(text: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices(root) {
        let before = text[..start].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            expand(&text[start..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path or tree of paths from the start of `text`; returns how many bytes it has.
fn expand(text: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut at = 0;
    loop {
        let name: String =
            text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*').collect();
        at += name.len();
        prefix.push(name);
        if !text[at..].starts_with("::") {
            found.push(prefix.clone());
            break;
        }
        at += 2;
        if text[at..].starts_with('{') {
            at += 1;
            while !text[at..].trim_start().starts_with('}') {
                at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
                if text[at..].starts_with('}') {
                    break;
                }
                let read = expand(&text[at..], prefix, found);
                assert!(read > 0, "cannot read a use declaration: {}", &text[..text.len().min(120)]);
                at += read;
            }
            at += text[at..].find('}').unwrap() + 1;
            break;
        }
    }
    prefix.truncate(depth);
    at
}

/// The modules that each module imports.
fn imports(sources: &Sources) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let absolute = |module: &[String], path: &[String]| -> Vec<String> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "super" => [&module[..module.len() - supers], &path[supers..]].concat(),
            _ => [module, path].concat(),
        }
    };
    let file_of = |path: &[String]| -> Option<Vec<String>> {
        (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|known| sources.contains_key(known))
    };
    let mut all = BTreeMap::new();
    for (module, text) in sources.iter().filter(|(module, _)| **module != ["lib"]) {
        let mut of_module = BTreeSet::new();
        let mut used: Vec<Vec<String>> =
            ["crate::", "super::"].iter().flat_map(|root| paths(text, root)).collect();
        // A module names its children without a prefix.
        for (start, keyword) in text.match_indices("use ") {
            if text[..start]
                .rsplit('\n')
                .next()
                .is_some_and(|before| before.trim().is_empty() || before == "pub ")
            {
                expand(&text[start + keyword.len()..], &mut Vec::new(), &mut used);
            }
        }
        for path in used {
            // An inner module of a file is part of that file.
            let target = file_of(&absolute(module, &path));
            of_module.extend(target.filter(|target| target != module));
        }
        all.insert(module.clone(), of_module);
    }
    all
}

/// The modules on a circle, or between two: the rest after removing modules without importers or without imports.
fn circles(imports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> BTreeSet<Vec<String>> {
    let mut left: BTreeSet<Vec<String>> = imports.keys().cloned().collect();
    loop {
        let is_imported =
            |module: &Vec<String>| left.iter().any(|importer| imports[importer].contains(module));
        let imports_any = |module: &Vec<String>| imports[module].iter().any(|target| left.contains(target));
        let kept: BTreeSet<_> =
            left.iter().filter(|module| is_imported(module) && imports_any(module)).cloned().collect();
        if kept.len() == left.len() {
            return left;
        }
        left = kept;
    }
}

/// Every import that points to a later layer, and every circle of files; empty for a sound tree.
fn violations(sources: &Sources) -> Vec<String> {
    let imports = imports(sources);
    let layer = |module: &[String]| LAYERS.iter().position(|layer| *layer == module[0]);
    let mut found = Vec::new();
    for (module, targets) in &imports {
        let Some(own) = layer(module) else {
            found.push(format!("{} is in no layer", module.join("::")));
            continue;
        };
        for target in targets {
            if layer(target).is_none_or(|other| other > own) {
                found.push(format!("{} imports {}, which is above it", module.join("::"), target.join("::")));
            }
        }
    }
    found.extend(circles(&imports).iter().map(|module| format!("{} is in a circle", module.join("::"))));
    found
}

#[test]
fn imports_follow_the_layers() {
    let mut sources = Sources::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut sources);
    assert!(sources.len() > 50, "the sources were not found");
    let known: usize = imports(&sources).values().map(BTreeSet::len).sum();
    assert!(known > 150, "only {known} imports were recognised");
    let violations = violations(&sources);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn a_planted_import_is_found() {
    let tree = |files: &[(&str, &str)]| -> Sources {
        let name = |module: &str| module.split("::").map(str::to_owned).collect();
        files.iter().map(|(module, text)| (name(module), without_tests(text))).collect()
    };
    let sound = [("foundation", "pub(crate) mod time;"), ("foundation::time", "pub type Micros = i64;")];
    assert_eq!(violations(&tree(&sound)), Vec::<String>::new());
    let upward = [("plan", ""), ("engine", ""), ("plan::rule", "use crate::{engine::Engine, plan};")];
    assert_eq!(violations(&tree(&upward)), ["plan::rule imports engine, which is above it"]);
    let inline = [("plan", "fn f() { crate::engine::start(); }"), ("engine", "")];
    assert_eq!(violations(&tree(&inline)).len(), 1);
    let circle =
        [("keyed", "mod saved;\nuse saved::Saved;\nstruct Stream;"), ("keyed::saved", "use super::Stream;")];
    assert_eq!(violations(&tree(&circle)).len(), 2);
    let in_tests = [("plan", "#[cfg(test)]\nmod tests {\n use crate::engine::Engine;\n}"), ("engine", "")];
    assert_eq!(violations(&tree(&in_tests)), Vec::<String>::new());
    assert_eq!(violations(&tree(&[("helpers", "")])), ["helpers is in no layer"]);
}
