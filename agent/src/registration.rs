//! Selectors become the registration entries that they earn.
//!
//! Files → `load` → `EntryIndex`, which answers `matching`. `EntryFiles` keeps the index true while the files
//! change; `lint` tells an operator what an entry does not say.

mod canonical;
mod closest;
mod dns;
mod document;
mod entry;
mod files;
mod index;
mod json;
mod lint;
mod load;
mod reader;
mod remarks;
mod render;
mod template;
mod values;
mod vocabulary;
mod warning;
mod watch;

pub use closest::{Comparison, Condition, Line, Verdict, advice, closest};
pub(crate) use entry::without;
pub use entry::{Entries, EntryId, RegistrationEntry, TemplateEntry};
pub use files::{EntryFiles, EntryFilesTask, ReloadCounts};
pub use index::EntryIndex;
pub use lint::{Surroundings, lint};
pub use load::{Loaded, MAX_ENTRIES, MAX_FILE_BYTES, MAX_TEMPLATES, Origin, load};
pub use render::render_toml;
pub use template::{IdTemplate, Placeholder, Reason, Refusal, TemplateFault};
pub use values::{MAX_SVID_TTL, MIN_SVID_TTL};
pub use warning::Warning;
#[cfg(feature = "authz")]
pub(crate) use watch::{DirectoryWatch, Fingerprint};
