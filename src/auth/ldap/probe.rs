//! [`probe`]: whether the directory can be asked as a login asks it, for `causeway check`.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use ldap3::{Ldap, Scope, ldap_escape};
use tokio::time::timeout;

use super::{NO_SUCH_OBJECT, SUCCESS, pool::Pool, trust};
use crate::{
    auth::check::{Finding, nobody},
    config,
    shutdown::Drain,
};

/// Asks every server: the binding of the service account, and the searches.
pub(in crate::auth) async fn probe(settings: &config::Ldap) -> Vec<(String, Finding)> {
    let trust = match trust(settings) {
        Ok(trust) => trust,
        Err(errors) => return vec![(String::new(), Err(errors.to_string()))],
    };
    let pool = Pool::new(settings.clone(), trust, Drain::default());
    let mut findings = Vec::new();
    for url in &settings.urls {
        let asked = AssertUnwindSafe(ask(settings, &pool, url)).catch_unwind();
        let finding = match timeout(settings.total, asked).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(_)) => Err("its answer makes no sense".to_owned()),
            Err(_) => Err(format!("no answer within {} s", settings.total.as_secs())),
        };
        findings.push((url.clone(), finding));
    }
    findings
}

async fn ask(settings: &config::Ldap, pool: &Pool, url: &str) -> Finding {
    let connected = pool.connect_to(url).await;
    let (ldap, _, driver) = connected.map_err(|error| format!("cannot connect: {error}"))?;
    tokio::select! {
        finding = search(settings, ldap) => finding,
        ended = driver => Err(match ended {
            Ok(()) => "closed the connection".to_owned(),
            Err(error) => format!("connection broke: {error}"),
        }),
    }
}

async fn search(settings: &config::Ldap, mut ldap: Ldap) -> Finding {
    let Some(service) = &settings.service else {
        return Ok("can be reached; users bind themselves, which only a login can try".to_owned());
    };
    let broken = |error: ldap3::LdapError| format!("connection broke: {error}");
    let bound = ldap.simple_bind(&service.dn, service.password.expose());
    let result = bound.await.map_err(broken)?;
    if result.rc != SUCCESS {
        return Err(format!("the service account cannot bind: {result}"));
    }
    let nobody = ldap_escape(nobody()).into_owned();
    let user_filter = settings.user_filter.replace("{user}", &nobody);
    let groups = &settings.groups;
    let group_filter = groups.filter.replace("{user}", &nobody);
    let group_filter = group_filter.replace("{dn}", &format!("cn={nobody}"));
    let mut searched = Vec::new();
    for (key, base, filter) in [
        ("user_base", &settings.user_base, user_filter),
        ("groups.base", &groups.base, group_filter),
    ] {
        let Some(base) = base else { continue };
        let answer = ldap.search(base, Scope::Subtree, &filter, vec!["1.1"]);
        let ldap3::SearchResult(_, result) = answer.await.map_err(broken)?;
        match result.rc {
            SUCCESS => searched.push(key),
            NO_SUCH_OBJECT => {
                return Err(format!(
                    "{key} {base:?} is not there, or the service account may not see it"
                ));
            }
            _ => return Err(format!("search below {key} {base:?}: {result}")),
        }
    }
    let searched = searched.join(" and ");
    Ok(format!("the service account binds and searches {searched}"))
}
