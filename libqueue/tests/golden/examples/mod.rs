//! One example of each message that goes between hosts or programs or is stored, with all of its fields.

mod ask;
mod batch;
mod hosts;
mod local;
mod session;

use super::Golden;

/// All of them.
pub(crate) fn all() -> Vec<Golden> {
    vec![
        Golden::one("SessionHello", session::session_hello()),
        Golden::one("ResumeHello", session::resume_hello()),
        Golden::one("AttachHello", session::attach_hello()),
        Golden::one("Attach", session::attach()),
        Golden::one("SessionAnswer", session::session_answer()),
        Golden::many("Request", local::request_kinds()),
        Golden::many("Reply", local::reply_kinds()),
        Golden::one("SessionNote", hosts::session_note()),
        Golden::one("ControlAsk", session::control_ask()),
        Golden::one("ControlReply", session::control_reply()),
        Golden::many("Gossip", hosts::gossip_kinds()),
        Golden::many("Member", hosts::member_kinds()),
        Golden::one("JoinOffer", hosts::join_offer()),
        Golden::one("JoinRequest", hosts::join_request()),
        Golden::one("JoinReply", hosts::join_reply()),
        Golden::one("Launch", session::launch()),
        Golden::many("ToSession", session::to_session_kinds()),
        Golden::many("FromSession", session::from_session_kinds()),
        Golden::many("job::Up", batch::up_kinds()),
        Golden::many("job::Down", batch::down_kinds()),
        Golden::one("job::JobAsk", ask::job_ask()),
        Golden::many("job::Query", ask::query_kinds()),
        Golden::many("job::JobReply", ask::job_reply_kinds()),
        Golden::many("Forward", session::forward_kinds()),
        Golden::one("MemberHello", hosts::member_hello()),
        Golden::one("Load", local::load()),
        Golden::one("Facts", hosts::facts()),
        Golden::one("Keys", hosts::keys()),
        Golden::one("Need", hosts::need()),
        Golden::one("job::Submit", batch::submit()),
        Golden::one("job::Run", batch::run()),
        Golden::one("job::Plan", batch::plan()),
        Golden::one("job::Params", batch::params()),
        Golden::one("job::Outcome", batch::outcome()),
        Golden::one("job::Running", batch::running()),
    ]
}
