//! The older text form of the metrics page (Prometheus 0.0.4), for whoever does not ask for OpenMetrics.

use std::fmt::Write as _;

/// `page`, in OpenMetrics, in the older form: a counter is called by the name of its samples, an info is
/// a gauge, and neither units nor the end are named.
pub(super) fn plain(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    let mut help = None;
    // Writing to a string cannot fail.
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let text = help.take().and_then(|help| help.split_once(' '));
            if let Some((_, text)) = text {
                let _ = writeln!(plain, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            plain += line;
            plain += "\n";
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_called_by_their_samples() {
        let page = "# HELP a_b Bytes.\n# TYPE a_b counter\n# UNIT a_b b\na_b_total 1\n\
                    # HELP a_c What.\n# TYPE a_c info\na_c_info{v=\"1\"} 1\n\
                    # HELP a_d Some.\n# TYPE a_d gauge\na_d 2\n# EOF\n";
        let expected = "# HELP a_b_total Bytes.\n# TYPE a_b_total counter\na_b_total 1\n\
                        # HELP a_c_info What.\n# TYPE a_c_info gauge\na_c_info{v=\"1\"} 1\n\
                        # HELP a_d Some.\n# TYPE a_d gauge\na_d 2\n";
        assert_eq!(plain(page), expected);
    }
}
