//! Images of honest folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use lantern_sandbox::image::{Images, Plan, build};

use crate::support::{folder, layout};

#[test]
fn the_same_folder_is_the_same_image_whoever_made_it_and_when() {
    let make = |name: &str, order: &[&str]| {
        let dir = folder(name);
        fs::create_dir_all(dir.join("etc")).unwrap();
        for file in order {
            fs::write(dir.join(file), file).unwrap();
        }
        fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("etc/b", dir.join("link")).unwrap();
        dir
    };
    let (one, two) = (make("same-1", &["etc/a", "etc/b", "run"]), make("same-2", &["run", "etc/b", "etc/a"]));
    let plan = Plan { name: "same".to_owned(), entrypoint: vec!["/run".to_owned()], ..Plan::default() };
    let first = build(&layout("same-layout-1"), &one, &plan).unwrap();
    let second = build(&layout("same-layout-2"), &two, &plan).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.entries, 5);
    fs::write(two.join("run"), "changed").unwrap();
    assert_ne!(build(&layout("same-layout-3"), &two, &plan).unwrap().image, first.image);
}

#[test]
fn what_was_built_unpacks_as_it_was() {
    let data = folder("unpacks");
    let images = Images::below(&data);
    let below = folder("unpacks-base");
    fs::create_dir_all(below.join("usr/bin")).unwrap();
    fs::write(below.join("usr/bin/tool"), "tool").unwrap();
    symlink("usr/bin", below.join("bin")).unwrap();
    let plan = Plan { name: "base".to_owned(), env: vec!["A=1".to_owned()], ..Plan::default() };
    let base = build(images.layout(), &below, &plan).unwrap();
    let above = folder("unpacks-top");
    fs::create_dir_all(above.join("bin")).unwrap();
    fs::write(above.join("bin/run"), "run").unwrap();
    fs::set_permissions(above.join("bin/run"), fs::Permissions::from_mode(0o700)).unwrap();
    let plan = Plan {
        name: "top".to_owned(),
        entrypoint: vec!["/bin/run".to_owned()],
        env: vec!["B=2".to_owned()],
        base: Some(base.image.sha256.clone()),
    };
    let top = build(images.layout(), &above, &plan).unwrap();
    let ready = images.ready(&top.image).unwrap();
    // A folder takes the place of a link, as every tool that unpacks layers has it.
    assert_eq!(fs::read_to_string(ready.rootfs.join("usr/bin/tool")).unwrap(), "tool");
    let mode = fs::metadata(ready.rootfs.join("bin/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "everybody can read and run it");
    assert_eq!(
        (ready.config.env, ready.config.entrypoint),
        (vec!["A=1".to_owned(), "B=2".to_owned()], plan.entrypoint)
    );
    for name in ["proc", "dev", "tmp"] {
        assert!(ready.rootfs.join(name).is_dir(), "{name}");
    }
    let index = fs::read_to_string(data.join("images/index.json")).unwrap();
    assert!(index.contains("\"base\"") && index.contains("\"top\""), "{index}");
}

#[test]
fn what_is_not_here_is_said_by_name() {
    let images = Images::below(&folder("empty"));
    let image = lantern_policy::workload::Image { repository: "hello".to_owned(), sha256: "0".repeat(64) };
    let words = images.ready(&image).unwrap_err().to_string();
    assert!(words.contains("hello@sha256:000") && words.contains("lantern build"), "{words}");
}
