//! Floating-point numbers as Go writes them.

/// A number that is not negative, by `%e`, `%f`, `%g` or `%v`; nothing for other verbs.
pub(super) fn unsigned(n: f64, verb: char, precision: Option<usize>) -> Option<String> {
    match verb {
        'e' => Some(scientific(n, precision.unwrap_or(6))),
        'E' => Some(scientific(n, precision.unwrap_or(6)).to_uppercase()),
        'f' | 'F' => Some(format!("{n:.*}", precision.unwrap_or(6))),
        'g' | 'v' => Some(shorter(n, precision)),
        'G' => Some(shorter(n, precision).to_uppercase()),
        _ => None,
    }
}

fn scientific(n: f64, precision: usize) -> String {
    with_exponent(&format!("{n:.precision$e}"))
}

/// The exponent has a sign, and two digits at least.
fn with_exponent(written: &str) -> String {
    let (mantissa, exponent) = written.split_once('e').expect("Rust writes an exponent");
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// With an exponent where that is shorter: as few digits as tell the number apart, or as many as the precision says, less
/// the zeros at their end.
fn shorter(n: f64, precision: Option<usize>) -> String {
    let rounded = match precision {
        None => format!("{n:e}"),
        Some(precision) => format!("{n:.*e}", precision.max(1) - 1),
    };
    let (mantissa, exponent) = rounded.split_once('e').expect("Rust writes an exponent");
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let exponent = exponent.parse::<i32>().expect("the exponent is a number");
    let digits = i32::try_from(mantissa.len().max(2) - 1).expect("digits are few");
    let most = match precision {
        None => 6,
        Some(precision) => {
            let precision = i32::try_from(precision.max(1)).unwrap_or(i32::MAX);
            if precision > digits && digits > exponent { digits } else { precision }
        }
    };
    if exponent < -4 || exponent >= most {
        return with_exponent(&format!("{mantissa}e{exponent}"));
    }
    let decimals = usize::try_from(digits - 1 - exponent).unwrap_or(0);
    format!("{n:.decimals$}")
}
