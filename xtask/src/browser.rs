//! A browser without a screen, which looks at the pages that we make.

use std::path::PathBuf;

use crate::{cache, debian};

/// Chromium's shell, its data, a font, and every library of theirs that a small machine may lack. What apt and dpkg
/// themselves need is on every machine that can fetch these.
const PACKAGES: [&str; 55] = [
    "chromium-common",
    "chromium-headless-shell",
    "fonts-dejavu-core",
    "libasound2",
    "libasyncns0",
    "libatk1.0-0",
    "libatspi2.0-0",
    "libbrotli1",
    "libbsd0",
    "libdav1d6",
    "libdbus-1-3",
    "libdouble-conversion3",
    "libdrm2",
    "libexpat1",
    "libffi8",
    "libflac12",
    "libfontconfig1",
    "libfreetype6",
    "libgbm1",
    "libglib2.0-0",
    "libgraphite2-3",
    "libharfbuzz-subset0",
    "libharfbuzz0b",
    "libjpeg62-turbo",
    "liblcms2-2",
    "libminizip1",
    "libmp3lame0",
    "libmpg123-0",
    "libnspr4",
    "libnss3",
    "libogg0",
    "libopenh264-7",
    "libopenjp2-7",
    "libopus0",
    "libpng16-16",
    "libpulse0",
    "libsndfile1",
    "libsqlite3-0",
    "libvorbis0a",
    "libvorbisenc2",
    "libwayland-server0",
    "libx11-6",
    "libx11-xcb1",
    "libxau6",
    "libxcb1",
    "libxcomposite1",
    "libxdamage1",
    "libxdmcp6",
    "libxext6",
    "libxfixes3",
    "libxi6",
    "libxkbcommon0",
    "libxnvctrl0",
    "libxrandr2",
    "libxrender1",
];
/// Counted up when [`PACKAGES`] change.
const REVISION: u32 = 1;

/// The folder with Debian's `usr` of it.
///
/// # Errors
/// Where packages do not come from Debian, or cannot be fetched.
pub(crate) fn browser() -> anyhow::Result<PathBuf> {
    let name = format!("browser-{REVISION}-{}-{}", debian::codename()?, std::env::consts::ARCH);
    cache::entry(&name, |draft| debian::unpack(&PACKAGES, draft))
}
