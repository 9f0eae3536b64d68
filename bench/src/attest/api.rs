//! The two ways to a first secret.

use std::{fmt, str::FromStr};

use anyhow::{Error, bail};

/// How a workload asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// FetchX509SVID.
    Workload,
    /// StreamSecrets, for `default`.
    Sds,
}

impl Api {
    pub(crate) const BOTH: [Self; 2] = [Self::Workload, Self::Sds];
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Workload => "workload-api",
            Self::Sds => "sds",
        })
    }
}

impl FromStr for Api {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match Self::BOTH.into_iter().find(|api| api.to_string() == text) {
            Some(api) => Ok(api),
            None => bail!("{text:?} is no API"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_is_read_back() {
        for api in Api::BOTH {
            assert_eq!(api.to_string().parse::<Api>().unwrap(), api);
        }
        assert!("tls".parse::<Api>().is_err());
    }
}
