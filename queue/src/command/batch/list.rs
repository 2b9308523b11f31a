//! The list of batch jobs.

use super::{named, reason, run_time};
use crate::human;
use crate::leader;
use crate::messages::{Failure, printable};
use crate::table::Table;
use libqueue::job;
use libqueue::wire::job::{Count, Job, List, Page, State, job_reply, query};

/// Fetches a page of them.
///
/// # Errors
/// The leader cannot be reached, or refuses.
pub fn fetch(list: &List) -> Result<Page, Failure> {
    let mut list = list.clone();
    list.which = list.which.map(named).transpose()?;
    match leader::reply(query::Kind::List(list))? {
        job_reply::Kind::Page(page) => Ok(page),
        _ => Err(leader::strange()),
    }
}

/// One line a job.
pub fn table(page: &Page) -> Table {
    let several = page.jobs.windows(2).any(|w| w[0].user != w[1].user);
    let mut heads = vec!["ID"];
    if several {
        heads.push("USER");
    }
    heads.extend(["NAME", "STATE", "HOST", ">AGE", ">TIME", "COMMAND", "REASON"]);
    let mut t = Table::new(&heads);
    for j in &page.jobs {
        let mut row = vec![job::name(j.id, j.task)];
        if several {
            row.push(printable(&j.user));
        }
        let or_dash = |s: String| if s.is_empty() { "-".to_owned() } else { s };
        row.extend([
            or_dash(shortened(&printable(&j.name), 20)),
            state(j),
            or_dash(printable(&j.host)),
            human::age(page.now_ms.saturating_sub(j.submitted_ms)),
            run_time(j, page.now_ms),
            or_dash(shortened(&printable(&j.command), 40)),
            reason(j),
        ]);
        t.row(row);
    }
    t
}

/// A note about those that are not on the page.
pub fn more(page: &Page, list: &List) -> Option<String> {
    let shown = page.jobs.len() as u64;
    let rest = page.total.saturating_sub(list.offset + shown);
    (rest > 0).then(|| {
        format!(
            "{rest} more jobs: --offset {} shows the next ones",
            list.offset + shown
        )
    })
}

fn shortened(text: &str, width: usize) -> String {
    crate::table::cut(text, Some(width))
}

/// Its state; of an array, how many tasks are in which.
fn state(j: &Job) -> String {
    if j.counts.is_empty() {
        return job::state_name(j.state()).to_owned();
    }
    counts(&j.counts)
}

/// `3 running, 12 done`.
pub fn counts(all: &[Count]) -> String {
    let said: Vec<String> = all
        .iter()
        .filter(|c| c.number > 0)
        .map(|c| {
            format!(
                "{} {}",
                c.number,
                job::state_name(State::try_from(c.state).unwrap_or_default())
            )
        })
        .collect();
    match said.is_empty() {
        true => "none".to_owned(),
        false => said.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Cause, Outcome};

    #[test]
    fn as_a_table() {
        let page = Page {
            jobs: vec![
                Job {
                    id: 12,
                    user: "alice".into(),
                    name: "make".into(),
                    state: State::Waiting as i32,
                    reason: "after 11".into(),
                    submitted_ms: 1_000,
                    command: "make -j8 all".into(),
                    ..Job::default()
                },
                Job {
                    id: 13,
                    task: 4,
                    user: "alice".into(),
                    state: State::Buried as i32,
                    host: "h2".into(),
                    submitted_ms: 1_000,
                    started_ms: 2_000,
                    ended_ms: 4_000,
                    outcome: Some(Outcome {
                        cause: Cause::Exited as i32,
                        code: Some(3),
                        wall_ms: 1_900,
                        ..Outcome::default()
                    }),
                    ..Job::default()
                },
            ],
            total: 5,
            now_ms: 61_000,
        };
        assert_eq!(
            table(&page).render(None),
            "ID    NAME  STATE    HOST  AGE    TIME  COMMAND       REASON\n\
             12    make  waiting  -     60s       -  make -j8 all  after 11\n\
             13.4  -     buried   h2    60s  0:01.9  -             exit 3\n"
        );
        let note = more(&page, &List::default());
        assert_eq!(
            note.as_deref(),
            Some("3 more jobs: --offset 2 shows the next ones")
        );
        let c = |state: State, number| Count {
            state: state as i32,
            number,
        };
        assert_eq!(
            counts(&[c(State::Running, 3), c(State::Lost, 0), c(State::Done, 12)]),
            "3 running, 12 done"
        );
    }
}
