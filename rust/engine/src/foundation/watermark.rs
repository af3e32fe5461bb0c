//! Watermark: the event time before which no more events are expected.
//!
//! Each stream (a Kafka partition, a file) has a clock: its largest event time. The watermark is the lowest clock of
//! the streams that are not idle, minus the allowed lateness. It never moves back.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::time::Micros;

/// Identifies a stream within one engine: a Kafka partition, a file.
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

    /// Copy with another allowed lateness.
    pub(crate) fn with_lateness(&self, lateness: Micros) -> Self {
        Self { lateness, ..self.clone() }
    }

    /// Current watermark; `Micros::MIN` before the first event.
    pub(crate) fn current(&self) -> Micros {
        self.current
    }

    /// Largest event time of all streams.
    pub(crate) fn newest(&self) -> Option<Micros> {
        self.clocks.iter().map(|clock| clock.time).filter(|&time| time != Micros::MIN).max()
    }

    /// Makes a stream hold the watermark back from now on: before its first event, or again after it was idle.
    pub(crate) fn join(&mut self, stream: StreamId) {
        match self.clocks.iter_mut().find(|clock| clock.stream == stream) {
            Some(clock) => clock.idle = false,
            None => self.clocks.push(Clock { stream, time: Micros::MIN, idle: false }),
        }
    }

    /// Removes a stream; it no longer holds the watermark back.
    pub(crate) fn leave(&mut self, stream: StreamId) {
        self.clocks.retain(|clock| clock.stream != stream);
        self.advance();
    }

    /// Stops a stream from holding the watermark back until its next event.
    pub(crate) fn set_idle(&mut self, stream: StreamId) {
        if let Some(clock) = self.clocks.iter_mut().find(|clock| clock.stream == stream) {
            clock.idle = true;
        }
        self.advance();
    }

    /// Takes a view of one stream's clock for the duration of a batch.
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

    /// Applies the view at the end of the batch.
    pub(crate) fn close(&mut self, view: StreamClock) {
        if let Some(clock) = self.clocks.iter_mut().find(|clock| clock.stream == view.stream) {
            clock.time = view.own;
        }
        self.current = view.current;
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.i64(self.current);
        to.list(self.clocks.iter(), |to, clock| {
            to.u32(clock.stream);
            to.i64(clock.time);
        });
    }

    /// Loads saved clocks. They do not hold the watermark back until their stream joins, because it may be assigned
    /// to another worker by now.
    pub(crate) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Damaged> {
        self.current = from.i64()?;
        self.clocks =
            from.list(12, |from| Ok(Clock { stream: from.u32()?, time: from.i64()?, idle: true }))?;
        Ok(())
    }

    /// Moves the watermark to the end of time: the input ended.
    pub(crate) fn finish(&mut self) {
        self.current = Micros::MAX;
    }

    fn advance(&mut self) {
        let slowest = self.clocks.iter().filter(|clock| !clock.idle).map(|clock| clock.time).min();
        if let Some(time) = slowest {
            self.current = self.current.max(time.saturating_sub(self.lateness));
        }
    }
}

/// One stream's clock together with the watermark of all, for the duration of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamClock {
    stream: StreamId,
    own: Micros,
    others: Micros,
    lateness: Micros,
    current: Micros,
}

impl StreamClock {
    /// Copy whose watermark is at least `floor`.
    pub(crate) fn not_before(self, floor: Micros) -> Self {
        Self { current: self.current.max(floor), ..self }
    }

    /// A clock that stays at the watermark `at`.
    pub(crate) fn fixed_at(at: Micros) -> Self {
        let none = Micros::MIN;
        Self { stream: 0, own: none, others: none, lateness: 0, current: at }
    }

    /// Copy whose watermark lags by `delay`.
    pub(crate) fn behind_by(self, delay: Micros) -> Self {
        let current =
            if self.current == Micros::MAX { self.current } else { self.current.saturating_sub(delay) };
        Self { lateness: self.lateness + delay, current, ..self }
    }

    /// Largest event time of the stream.
    pub(crate) fn time(&self) -> Option<Micros> {
        Some(self.own).filter(|&time| time != Micros::MIN)
    }

    /// Records events with the largest time `time`.
    pub(crate) fn observe(&mut self, time: Micros) {
        self.current = self.watermark_after(time);
        self.own = self.own.max(time);
    }

    /// Watermark after events up to `time`.
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
    fn watermark_follows_the_slowest_stream_that_is_not_idle() {
        let mut watermark = Watermark::new(10);
        watermark.join(1);
        watermark.join(2);
        assert_eq!(see(&mut watermark, 1, 100), Micros::MIN);
        assert_eq!(see(&mut watermark, 2, 50), 40);
        watermark.set_idle(2);
        assert_eq!(watermark.current(), 90);
        assert_eq!(see(&mut watermark, 2, 60), 90, "never moves back");
        watermark.set_idle(2);
        watermark.join(2);
        assert_eq!(see(&mut watermark, 1, 150), 90, "holds back again");
        watermark.leave(2);
        assert_eq!(see(&mut watermark, 1, 200), 190);
        assert_eq!(watermark.newest(), Some(200));
    }
}
