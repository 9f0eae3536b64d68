use std::path::Path;

use vouch_tests::{Engine, engine::root_folder};

pub(super) const IMAGE: &str = "box:1";

/// Makes an image in which `program` can run.
pub(super) fn import(engine: &Engine, program: &Path) {
    engine.import(root_folder(program).path(), IMAGE);
}
