//! The watermark: the event time before which no more events are expected.
//!
//! Each stream (a Kafka partition, a file) has a clock, the largest event time seen on it. The watermark is
//! the slowest clock of the streams that are not idle, less the allowed lateness. It never goes back.

use crate::codec::{Damaged, Reader, Writer};
use crate::time::Micros;

/// Names a stream within one engine: a Kafka partition, a file.
pub type StreamId = u32;

#[derive(Debug, Clone, Copy)]
struct Clock {
    stream: StreamId,
    /// `Micros::MIN` until the first event.
    time: Micros,
    idle: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Watermark {
    clocks: Vec<Clock>,
    lateness: Micros,
    current: Micros,
}

impl Watermark {
    pub(crate) fn new(lateness: Micros) -> Self {
        Self { clocks: Vec::new(), lateness, current: Micros::MIN }
    }

    /// The same clocks under another allowed lateness.
    pub(crate) fn with_lateness(&self, lateness: Micros) -> Self {
        Self { lateness, ..self.clone() }
    }

    /// Event time before which everything is expected to have come; `Micros::MIN` before the first event.
    pub(crate) fn current(&self) -> Micros {
        self.current
    }

    /// The largest event time on any stream.
    pub(crate) fn newest(&self) -> Option<Micros> {
        self.clocks.iter().map(|clock| clock.time).filter(|&time| time != Micros::MIN).max()
    }

    /// Lets a stream hold the watermark back from now on: a new one before its first event, an idle one again.
    pub(crate) fn join(&mut self, stream: StreamId) {
        match self.clocks.iter_mut().find(|clock| clock.stream == stream) {
            Some(clock) => clock.idle = false,
            None => self.clocks.push(Clock { stream, time: Micros::MIN, idle: false }),
        }
    }

    /// Forgets a stream; it holds nothing back any more.
    pub(crate) fn leave(&mut self, stream: StreamId) {
        self.clocks.retain(|clock| clock.stream != stream);
        self.settle();
    }

    /// A stream without events does not hold the others back until its next event.
    pub(crate) fn set_idle(&mut self, stream: StreamId) {
        if let Some(clock) = self.clocks.iter_mut().find(|clock| clock.stream == stream) {
            clock.idle = true;
        }
        self.settle();
    }

    /// A view of one stream's clock for the length of a batch.
    pub(crate) fn open(&mut self, stream: StreamId) -> StreamClock {
        self.join(stream);
        let mut others = Micros::MAX;
        let mut own = Micros::MIN;
        for clock in &mut self.clocks {
            if clock.stream == stream {
                clock.idle = false;
                own = clock.time;
            } else if !clock.idle {
                others = others.min(clock.time);
            }
        }
        StreamClock { stream, own, others, lateness: self.lateness, current: self.current }
    }

    /// Takes back the view when the batch is done.
    pub(crate) fn close(&mut self, view: StreamClock) {
        if let Some(clock) = self.clocks.iter_mut().find(|clock| clock.stream == view.stream) {
            clock.time = view.own;
        }
        self.current = view.current;
    }

    pub(crate) fn save(&self, to: &mut Writer) {
        to.i64(self.current);
        to.list(self.clocks.iter(), |to, clock| {
            to.u32(clock.stream);
            to.i64(clock.time);
        });
    }

    /// Takes over what was saved. No stream holds it back until it joins: it may be somebody else's by now.
    pub(crate) fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Damaged> {
        self.current = from.i64()?;
        self.clocks =
            from.list(12, |from| Ok(Clock { stream: from.u32()?, time: from.i64()?, idle: true }))?;
        Ok(())
    }

    /// Moves the watermark to the end of time: no more events will come.
    pub(crate) fn finish(&mut self) {
        self.current = Micros::MAX;
    }

    fn settle(&mut self) {
        let slowest = self.clocks.iter().filter(|clock| !clock.idle).map(|clock| clock.time).min();
        if let Some(time) = slowest {
            self.current = self.current.max(time.saturating_sub(self.lateness));
        }
    }
}

/// One stream's clock and the watermark it makes together with the others, for the length of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamClock {
    stream: StreamId,
    own: Micros,
    others: Micros,
    lateness: Micros,
    current: Micros,
}

impl StreamClock {
    /// The same clock where the watermark has already come to `floor`.
    pub(crate) fn not_before(self, floor: Micros) -> Self {
        Self { current: self.current.max(floor), ..self }
    }

    /// A clock that has come so far and stands still.
    pub(crate) fn standing(at: Micros) -> Self {
        let none = Micros::MIN;
        Self { stream: 0, own: none, others: none, lateness: 0, current: at }
    }

    /// The same clock with the watermark so much further behind.
    pub(crate) fn behind_by(self, delay: Micros) -> Self {
        let current =
            if self.current == Micros::MAX { self.current } else { self.current.saturating_sub(delay) };
        Self { lateness: self.lateness + delay, current, ..self }
    }

    /// The largest event time seen on the stream.
    pub(crate) fn time(&self) -> Option<Micros> {
        Some(self.own).filter(|&time| time != Micros::MIN)
    }

    /// Takes notice of event times, of which `time` is the largest.
    pub(crate) fn observe(&mut self, time: Micros) {
        self.current = self.watermark_after(time);
        self.own = self.own.max(time);
    }

    /// The watermark once events up to `time` have been observed.
    #[inline]
    pub(crate) fn watermark_after(&self, time: Micros) -> Micros {
        let slowest = self.own.max(time).min(self.others);
        self.current.max(slowest.saturating_sub(self.lateness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(watermark: &mut Watermark, stream: StreamId, time: Micros) -> Micros {
        let mut view = watermark.open(stream);
        view.observe(time);
        watermark.close(view);
        watermark.current()
    }

    #[test]
    fn the_slowest_stream_leads_and_an_idle_one_does_not() {
        let mut watermark = Watermark::new(10);
        watermark.join(1);
        watermark.join(2);
        assert_eq!(see(&mut watermark, 1, 100), Micros::MIN);
        assert_eq!(see(&mut watermark, 2, 50), 40);
        watermark.set_idle(2);
        assert_eq!(watermark.current(), 90);
        assert_eq!(see(&mut watermark, 2, 60), 90, "never goes back");
        watermark.set_idle(2);
        watermark.join(2);
        assert_eq!(see(&mut watermark, 1, 150), 90, "holds back again");
        watermark.leave(2);
        assert_eq!(see(&mut watermark, 1, 200), 190);
        assert_eq!(watermark.newest(), Some(200));
    }
}
