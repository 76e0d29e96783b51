//! Which functions may be in memory at the same time: a state machine without clock, thread or lock.
//!
//! `keeper.rs` is the mechanism around it: it tells what happened, and does the next step until there is none. What this file
//! promises: wakes are let in one by one, in the order in which they were asked for; none is let in while what the functions
//! hold, with what it needs, would be more than the budget; only functions that are idle go for others, the one that was idle
//! for longest first, and never one with `min = 1`; a wake that can never fit is refused at once, so that nobody waits behind it.
//!
//! What a function needs is measured, as `docs/decisions/0030-a-budget-of-measured-memory.md` says: by how much the process
//! grew when the function woke and shrank when it slept, where no other function woke or slept meanwhile. Until then it counts
//! with the size of its files, and wakes alone, so that it can be measured.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};
use torpor_manifest::ByteSize;

/// The least that a function counts with. What else it takes is lost in the noise of a measurement, and is not nothing.
const LEAST: u64 = 256 * 1024;

/// One function, whatever its name: a revision and the one before it are two.
pub(crate) type Id = u64;

pub(crate) struct Budget {
    /// Bytes; `None` where the operator set none. Then nobody waits, and sizes are measured all the same.
    limit: Option<u64>,
    line: VecDeque<Wish>,
    /// Functions that wake, are warm, or go to sleep.
    held: HashMap<Id, Holding>,
    sizes: HashMap<Id, Size>,
    /// Wakes and sleeps that are under way.
    moving: usize,
    /// Wakes and sleeps that ever began.
    moves: u64,
}

/// Somebody who wants to wake.
struct Wish {
    id: Id,
    /// Bytes of the function's files.
    files: u64,
    pinned: bool,
}

struct Holding {
    bytes: u64,
    pinned: bool,
    phase: Phase,
    /// What `moves` was when the present wake or sleep began; `None` where another one was under way then.
    alone: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waking,
    Warm,
    Sleeping,
}

/// What is known of a function, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// By how much the process grew when it last woke alone. What a library takes at its first use and keeps is in it.
    grown: Option<u64>,
    /// By how much it shrank when it last slept alone. What the function took while it ran is in it.
    given_back: Option<u64>,
}

impl Size {
    /// The larger one, since each leaves something out.
    fn bytes(self) -> Option<u64> {
        self.grown.max(self.given_back).map(|bytes| bytes.max(LEAST))
    }
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let this function wake. It counts from now on.
    Wake(Id),
    /// Put this function to sleep, or say that it [`Budget::stays`]. It counts until it has slept.
    Evict(Id),
    /// Tell this function that it cannot wake. It has left the line.
    Refuse(Id, TooLarge),
}

/// A function does not fit into the budget, whatever else sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it takes {} ({what}), and the memory budget of {}{} has no room for that; raise `--memory-budget`, or give it a smaller model",
    ByteSize::bytes(*need), ByteSize::bytes(*limit), Pinned(*pinned)
)]
pub(crate) struct TooLarge {
    need: u64,
    what: &'static str,
    limit: u64,
    /// What functions with `min = 1` hold.
    pinned: u64,
}

/// Says of what others hold, if they hold anything.
struct Pinned(u64);

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            bytes => write!(f, ", of which functions with `min = 1` hold {},", ByteSize::bytes(bytes)),
        }
    }
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Budget { limit, line: VecDeque::new(), held: HashMap::new(), sizes: HashMap::new(), moving: 0, moves: 0 }
    }

    /// What all functions that are in memory count with.
    pub(crate) fn total(&self) -> u64 {
        self.held.values().map(|holding| holding.bytes).sum()
    }

    /// What a function counts with, while it is in memory.
    pub(crate) fn counted(&self, id: Id) -> Option<u64> {
        self.held.get(&id).map(|holding| holding.bytes)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether a function waits.
    pub(crate) fn waits(&self, id: Id) -> bool {
        self.line.iter().any(|wish| wish.id == id)
    }

    /// Who is served next.
    pub(crate) fn head(&self) -> Option<Id> {
        self.line.front().map(|wish| wish.id)
    }

    /// Whether a function that gets idle is to be told, since somebody may want its memory.
    pub(crate) fn is_pressed(&self) -> bool {
        !self.line.is_empty() || self.limit.is_some_and(|limit| self.total() > limit)
    }

    /// A cold function wants to wake. It joins the end of the line.
    pub(crate) fn ask(&mut self, id: Id, files: u64, pinned: bool) {
        self.line.push_back(Wish { id, files, pinned });
    }

    /// A function leaves the line.
    pub(crate) fn withdraw(&mut self, id: Id) {
        self.line.retain(|wish| wish.id != id);
    }

    /// Lets those pass who are behind a function for which no request waits. False when it is in the line no more.
    pub(crate) fn step_back(&mut self, id: Id) -> bool {
        let Some(place) = self.line.iter().position(|wish| wish.id == id) else { return false };
        let wish = self.line.remove(place);
        self.line.extend(wish);
        true
    }

    /// Whether a function may go for others, whatever was said when it asked: one that is replaced may, and one that is loaded may not.
    pub(crate) fn pin(&mut self, id: Id, pin: bool) {
        let wishes = self.line.iter_mut().filter(|wish| wish.id == id).map(|wish| &mut wish.pinned);
        wishes.chain(self.held.get_mut(&id).map(|holding| &mut holding.pinned)).for_each(|pinned| *pinned = pin);
    }

    /// A function will not wake again.
    pub(crate) fn forget(&mut self, id: Id) {
        self.sizes.remove(&id);
    }

    /// A wake has succeeded, and the process grew so much meanwhile.
    ///
    /// # Errors
    /// When the function was measured, and does not fit whatever else sleeps. It still counts, and is to be closed.
    pub(crate) fn woke(&mut self, id: Id, grown: Option<u64>) -> Result<(), TooLarge> {
        let alone = self.settled(id);
        let measured = grown.filter(|_| alone);
        if let Some(grown) = measured {
            self.sizes.entry(id).or_default().grown = Some(grown);
        }
        let size = self.size(id);
        let Some(holding) = self.held.get_mut(&id) else { return Ok(()) };
        holding.phase = Phase::Warm;
        holding.bytes = size.unwrap_or(holding.bytes);
        let bytes = holding.bytes;
        // What was not measured now has been judged before.
        let fits = measured.map_or(Ok(()), |_| self.fits(bytes, "measured", Some(id)));
        fits.inspect_err(|_| self.begins(id, Phase::Sleeping))
    }

    /// A warm function goes to sleep for its own reasons.
    pub(crate) fn sleeps(&mut self, id: Id) {
        self.begins(id, Phase::Sleeping);
    }

    /// A function that was to be put to sleep is not idle any more.
    pub(crate) fn stays(&mut self, id: Id) {
        self.settled(id);
        if let Some(holding) = self.held.get_mut(&id) {
            holding.phase = Phase::Warm;
        }
    }

    /// A sleep is over, and the process shrank so much meanwhile.
    pub(crate) fn slept(&mut self, id: Id, given_back: Option<u64>) {
        let alone = self.settled(id);
        if let Some(given_back) = given_back.filter(|_| alone) {
            self.sizes.entry(id).or_default().given_back = Some(given_back);
        }
        self.held.remove(&id);
    }

    /// A function that [`Budget::woke`] refused is closed, and the process shrank so much meanwhile. The smaller of both measures
    /// decides what it needs, so that it is not shut out for what a library took at its first use, or another function did. True
    /// if it fits by that.
    pub(crate) fn turned_away(&mut self, id: Id, given_back: Option<u64>) -> bool {
        let alone = self.settled(id);
        let given_back = given_back.filter(|_| alone);
        self.held.remove(&id);
        let size = self.sizes.entry(id).or_default();
        let least = size.grown.into_iter().chain(given_back).min();
        *size = Size { grown: least, given_back: least };
        self.size(id).is_some_and(|bytes| self.fits(bytes, "measured", None).is_ok())
    }

    /// A wake did not succeed.
    pub(crate) fn failed(&mut self, id: Id) {
        self.settled(id);
        self.held.remove(&id);
    }

    /// What is to be done now, if anything. `idle_since` says since when a warm function has nothing to do, if it has nothing.
    pub(crate) fn next(&mut self, idle_since: impl Fn(Id) -> Option<Instant>) -> Option<Step> {
        let need = match self.line.front() {
            Some(wish) => {
                let (id, size) = (wish.id, self.size(wish.id));
                let need = size.unwrap_or(wish.files.max(LEAST));
                let what = if size.is_some() { "measured" } else { "its files alone" };
                if let Err(too_large) = self.fits(need, what, None) {
                    self.line.pop_front();
                    return Some(Step::Refuse(id, too_large));
                }
                let Some(limit) = self.limit else { return self.let_in() };
                if self.held.keys().any(|id| self.is_measured_now(*id)) {
                    return None;
                }
                if self.total().saturating_add(need) <= limit {
                    let may = self.moving == 0 || size.is_some();
                    return may.then(|| self.let_in()).flatten();
                }
                need
            }
            None => 0,
        };
        let limit = self.limit?;
        // What goes already will make room.
        let going = self.held.values().filter(|holding| holding.phase == Phase::Sleeping);
        let going: u64 = going.map(|holding| holding.bytes).sum();
        if (self.total() - going).saturating_add(need) <= limit {
            return None;
        }
        let warm = self.held.iter().filter(|(_, holding)| holding.phase == Phase::Warm && !holding.pinned);
        let (_, id) = warm.filter_map(|(id, _)| Some((idle_since(*id)?, *id))).min()?;
        self.begins(id, Phase::Sleeping);
        Some(Step::Evict(id))
    }

    fn let_in(&mut self) -> Option<Step> {
        let Wish { id, files, pinned } = self.line.pop_front()?;
        let bytes = self.size(id).unwrap_or(files.max(LEAST));
        self.held.insert(id, Holding { bytes, pinned, phase: Phase::Waking, alone: None });
        self.begins(id, Phase::Waking);
        Some(Step::Wake(id))
    }

    fn size(&self, id: Id) -> Option<u64> {
        self.sizes.get(&id).copied().and_then(Size::bytes)
    }

    /// Whether a function wakes of which nothing is known: nobody else wakes, or has to sleep, before that is done.
    fn is_measured_now(&self, id: Id) -> bool {
        self.held.get(&id).is_some_and(|holding| holding.phase == Phase::Waking) && self.size(id).is_none()
    }

    /// Whether a function can be in memory at all, beside those that never go.
    fn fits(&self, need: u64, what: &'static str, itself: Option<Id>) -> Result<(), TooLarge> {
        let Some(limit) = self.limit else { return Ok(()) };
        let others = self.held.iter().filter(|(id, holding)| holding.pinned && Some(**id) != itself);
        let pinned = others.map(|(_, holding)| holding.bytes).sum();
        match need.saturating_add(pinned) <= limit {
            true => Ok(()),
            false => Err(TooLarge { need, what, limit, pinned }),
        }
    }

    /// A wake or sleep begins.
    fn begins(&mut self, id: Id, phase: Phase) {
        self.moves += 1;
        let alone = (self.moving == 0).then_some(self.moves);
        self.moving += 1;
        if let Some(holding) = self.held.get_mut(&id) {
            (holding.phase, holding.alone) = (phase, alone);
        }
    }

    /// A wake or sleep ends. True if no other one was under way at any time meanwhile.
    fn settled(&mut self, id: Id) -> bool {
        self.moving = self.moving.saturating_sub(1);
        self.held.get(&id).is_some_and(|holding| holding.alone == Some(self.moves))
    }
}

#[cfg(test)]
mod tests;
