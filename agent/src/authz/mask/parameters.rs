//! Credentials among the parameters of URLs.

use super::MASKED;
use crate::authz::input::name_of_parameter;

/// Parameters whose values are credentials, in any case, and with brackets behind them.
const CREDENTIALS: [&str; 11] = [
    "access_token",
    "api_key",
    "apikey",
    "client_secret",
    "code",
    "id_token",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
];

pub(super) fn is_credential(name: &str) -> bool {
    let name = name.split('[').next().unwrap_or_default();
    CREDENTIALS.iter().any(|credential| credential.eq_ignore_ascii_case(name))
}

/// The URL without its credentials; `None` when it has none. They may stand in the query and in the fragment.
pub(super) fn covered_url(url: &str) -> Option<String> {
    let (before, query) = url.split_at(url.find(['?', '#'])? + 1);
    covered_query(query).map(|query| format!("{before}{query}"))
}

/// The query without its credentials; `None` when it has none.
pub(super) fn covered_query(query: &str) -> Option<String> {
    let mut covered = String::with_capacity(query.len());
    let mut found = false;
    for part in query.split_inclusive(['&', '#']) {
        let (part, end) = part.split_at(part.trim_end_matches(['&', '#']).len());
        match value_of_credential(part) {
            Some(at) => {
                covered.extend([&part[..at], MASKED, end]);
                found = true;
            }
            None => covered.extend([part, end]),
        }
    }
    found.then_some(covered)
}

/// Where the value begins, if the parameter is a credential. Some read `;` as a separator and some as a part of the value, so
/// what follows a credential belongs to it.
fn value_of_credential(parameter: &str) -> Option<usize> {
    let mut start = 0;
    for part in parameter.split_inclusive([';', '?']) {
        if let Some((name, _)) = part.split_once('=')
            && is_credential(&name_of_parameter(name))
        {
            return Some(start + name.len() + 1);
        }
        start += part.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_url_are_not_shown_and_all_else_is() {
        for (url, shown) in [
            ("/a?token=t&page=2", "/a?token=***&page=2"),
            ("/a?page=2&Access_Token=t", "/a?page=2&Access_Token=***"),
            ("/a?tok%65n=t%26u", "/a?tok%65n=***"),
            ("/a?api%5Fkey=k&token[]=t&code=", "/a?api%5Fkey=***&token[]=***&code=***"),
            ("/a?x=1;sig=s;y=2&z=3", "/a?x=1;sig=***&z=3"),
            ("/a?b?password=p", "/a?b?password=***"),
            ("/a?token=b?c;d", "/a?token=***"),
            ("https://e.org/cb#id_token=i&state=s", "https://e.org/cb#id_token=***&state=s"),
            ("/a?x=1#secret=s", "/a?x=1#secret=***"),
            ("/a?&&signature=s&&", "/a?&&signature=***&&"),
        ] {
            assert_eq!(covered_url(url).as_deref(), Some(shown), "{url}");
        }
        for url in ["", "/", "/token=t", "/a?", "/a?tokens=1&t=token", "/a?token", "/a?%zz=1", "/é?ü=ö"] {
            assert_eq!(covered_url(url), None, "{url}");
        }
        assert_eq!(covered_query("code=c&state=s").as_deref(), Some("code=***&state=s"));
    }
}
