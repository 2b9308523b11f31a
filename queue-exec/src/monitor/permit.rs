//! Who may ask what, and when: the whole table on one screen. Knows roles, kinds of requests and states;
//! decides nothing else. Whoever asks for what is not permitted is answered with "denied" and loses the
//! connection.

use queue_exec::protocol::{JobRequest, Request};

/// Who asks, by the kernel's word for the socket (`peer.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not served at all: an overflow uid, a process in another user namespace, a stranger in a single-user
    /// install.
    Nobody,
    /// Any local user. A session process that lost its monitor is one too: it has become its user.
    User,
    /// The daemon: the system user `queue`.
    Daemon,
    /// Root; in a single-user install its owner.
    Root,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sign,
    Start,
    Admit,
    Revoke,
    Watch,
    Reload,
    Adopt,
    Control,
    Renew,
    Install,
    Warrant,
    Run,
    End,
    Lease,
    Forget,
    Vouch,
    Deliver,
    Connect,
    Attach,
    About,
    Upgrade,
}

/// What this host can do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In no cluster yet, or its files do not fit together.
    NoKey,
    /// A member.
    Member,
}

/// The answer of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Yes,
    /// It would be permitted, but this host has no key: refused, the connection stays.
    NotReady,
    /// Denied, and the connection is closed.
    No,
}

const YES: bool = true;
const NO: bool = false;

/// The table. Two further conditions are met elsewhere: `Adopt` needs a session's record with the asker's
/// process id and start time; `Admit` and `Renew` need the authority's key in this host's room. The daemon may not have
/// anything signed: a broken one must not be able to speak for anyone, not even for its own account. What it asks for
/// by `Start`, `Control`, `Vouch` and `Attach` needs a user's ticket besides, each for one use; what it connects by
/// `Connect` needs the key of the session's client; `Run` and `Deliver` need a
/// user's warrant for what is executed, and each attempt is run once.
#[rustfmt::skip]
const TABLE: [(Kind, State, [bool; 4]); 21] = [
    //  request       needs            Nobody  User  Daemon  Root
    (Kind::Sign,    State::Member,   [ NO,     YES,  NO,     YES ]),
    (Kind::Start,   State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Admit,   State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Revoke,  State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Watch,   State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Reload,  State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Adopt,   State::NoKey,    [ NO,     YES,  YES,    YES ]),
    (Kind::Control, State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Renew,   State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Install, State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Warrant, State::Member,   [ NO,     YES,  NO,     YES ]),
    (Kind::Run,     State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::End,     State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Lease,   State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Forget,  State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Vouch,   State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Deliver, State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Connect, State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::Attach,  State::Member,   [ NO,     NO,   YES,    YES ]),
    (Kind::About,   State::NoKey,    [ NO,     NO,   YES,    YES ]),
    (Kind::Upgrade, State::NoKey,    [ NO,     NO,   NO,     YES ]),
];

/// Looks it up. What is not in the table is not permitted.
pub(crate) fn permit(role: Role, kind: Kind, state: State) -> Verdict {
    let column = match role {
        Role::Nobody => 0,
        Role::User => 1,
        Role::Daemon => 2,
        Role::Root => 3,
    };
    match TABLE.iter().find(|(k, _, _)| *k == kind) {
        Some((_, needs, permitted)) if permitted[column] => {
            if *needs == State::Member && state == State::NoKey {
                Verdict::NotReady
            } else {
                Verdict::Yes
            }
        }
        _ => Verdict::No,
    }
}

/// Which line of the table a request belongs to.
pub(crate) fn kind(request: &Request) -> Kind {
    match request {
        Request::Sign { .. } => Kind::Sign,
        Request::Start { .. } => Kind::Start,
        Request::Admit { .. } => Kind::Admit,
        Request::Revoke { .. } => Kind::Revoke,
        Request::Watch => Kind::Watch,
        Request::Reload => Kind::Reload,
        Request::Adopt { .. } => Kind::Adopt,
        Request::Renew { .. } => Kind::Renew,
        Request::Install { .. } => Kind::Install,
        Request::Control { .. } => Kind::Control,
        Request::Job(JobRequest::Warrant { .. }) => Kind::Warrant,
        Request::Job(JobRequest::Run { .. }) => Kind::Run,
        Request::Job(JobRequest::End { .. }) => Kind::End,
        Request::Job(JobRequest::Lease { .. }) => Kind::Lease,
        Request::Job(JobRequest::Forget { .. }) => Kind::Forget,
        Request::Job(JobRequest::Vouch { .. }) => Kind::Vouch,
        Request::Job(JobRequest::Deliver { .. }) => Kind::Deliver,
        Request::Connect { .. } => Kind::Connect,
        Request::Attach { .. } => Kind::Attach,
        Request::About => Kind::About,
        Request::Upgrade => Kind::Upgrade,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_his_word_signed_and_nothing_else() {
        use Kind::{About, Renew, Revoke, Run, Sign, Start, Upgrade, Vouch, Warrant, Watch};
        use Kind::{Admit, Adopt, Attach, Connect, Control, Deliver, End, Forget, Install, Lease, Reload};
        for k in [
            Sign, Start, Admit, Revoke, Watch, Reload, Adopt, Control, Renew, Install, Warrant, Run, End,
            Lease, Forget, Vouch, Deliver, Connect, Attach, About, Upgrade,
        ] {
            assert_eq!(permit(Role::Nobody, k, State::Member), Verdict::No);
            let user = matches!(k, Sign | Adopt | Warrant);
            assert_eq!(
                permit(Role::User, k, State::Member) == Verdict::Yes,
                user,
                "{k:?}"
            );
            // The daemon must not be able to speak for anyone, not even for its own account.
            assert_eq!(
                permit(Role::Daemon, k, State::Member) == Verdict::Yes,
                !matches!(k, Sign | Warrant | Upgrade),
                "{k:?}"
            );
            assert_eq!(permit(Role::Root, k, State::Member), Verdict::Yes);
            let always = matches!(k, Watch | Reload | Adopt | End | Lease | Forget | About | Upgrade);
            assert_eq!(
                permit(Role::Root, k, State::NoKey) == Verdict::Yes,
                always,
                "{k:?}"
            );
            assert_eq!(
                permit(Role::User, k, State::NoKey) == Verdict::NotReady,
                matches!(k, Sign | Warrant),
                "{k:?}"
            );
        }
    }
}
