//! Who may ask what, and when: the whole table on one screen. Knows roles, kinds of requests and states;
//! decides nothing else. Whoever asks for what is not permitted is answered with "denied" and loses the
//! connection.

use queue_exec::protocol::Request;

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

/// The table. A further condition of `Adopt` is the session's record: process id and start time must be the
/// asker's. A further one of `Admit` is that the authority's key is here.
pub(crate) fn permit(role: Role, kind: Kind, state: State) -> Verdict {
    use self::{Kind as K, Role as R};
    #[rustfmt::skip]
    let permitted = match (kind,  role) {
        //           Nobody             User              Daemon             Root
        (K::Sign,    R::Nobody) | (K::Sign,   R::Daemon)                                     => false,
        (K::Sign,                         R::User                          | R::Root)        => true,
        (K::Adopt,   R::Nobody)                                                              => false,
        (K::Adopt,                        R::User         | R::Daemon      | R::Root)        => true,
        (K::Start | K::Admit | K::Revoke | K::Watch | K::Reload, R::Nobody | R::User)        => false,
        (K::Start | K::Admit | K::Revoke | K::Watch | K::Reload, R::Daemon | R::Root)        => true,
    };
    let needs_key = match kind {
        K::Sign | K::Start | K::Admit | K::Revoke => true,
        K::Watch | K::Reload | K::Adopt => false,
    };
    match (permitted, needs_key, state) {
        (false, _, _) => Verdict::No,
        (true, true, State::NoKey) => Verdict::NotReady,
        (true, _, _) => Verdict::Yes,
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_his_word_signed_and_nothing_else() {
        use Kind::{Admit, Adopt, Reload, Revoke, Sign, Start, Watch};
        for k in [Sign, Start, Admit, Revoke, Watch, Reload, Adopt] {
            assert_eq!(permit(Role::Nobody, k, State::Member), Verdict::No);
            let user = matches!(k, Sign | Adopt);
            assert_eq!(
                permit(Role::User, k, State::Member) == Verdict::Yes,
                user,
                "{k:?}"
            );
            // The daemon must not be able to speak for anyone, not even for its own account.
            assert_eq!(
                permit(Role::Daemon, k, State::Member) == Verdict::Yes,
                k != Sign,
                "{k:?}"
            );
            assert_eq!(permit(Role::Root, k, State::Member), Verdict::Yes);
            let always = matches!(k, Watch | Reload | Adopt);
            assert_eq!(
                permit(Role::Root, k, State::NoKey) == Verdict::Yes,
                always,
                "{k:?}"
            );
            assert_eq!(
                permit(Role::User, k, State::NoKey) == Verdict::NotReady,
                k == Sign,
                "{k:?}"
            );
        }
    }
}
