//! Where the elements of a row are. `shaders/shared/row_layout.wgsl` draws an example.

/// A tensor seen as `[n, channels, span]`, with one weight and bias per channel, and the rows that have statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelView {
    pub(super) n: usize,
    pub(super) channels: usize,
    pub(super) span: usize,
    /// Groups of channels, each with its own statistics, and the channels of each.
    pub(super) groups: usize,
    pub(super) group_size: usize,
    /// Whether the statistics of a channel are over all n.
    pub(super) across_n: bool,
}

impl ChannelView {
    /// The number of means, and of variances.
    pub(super) fn statistics(&self) -> usize {
        // An empty tensor may have any n.
        if self.across_n { self.channels } else { self.n.saturating_mul(self.groups) }
    }

    /// One row per mean and variance.
    pub(super) fn rows_of_statistics(self) -> RowLayout {
        if self.across_n {
            return self.rows_of_channels();
        }
        let (rows, runs, run_len) = (self.statistics(), self.group_size, self.span);
        let run_step = Place { index: run_len, channel: 1, statistics: 0 };
        RowLayout { view: self, by_channel: false, rows, runs, run_len, row_step: runs * run_len, run_step }
            .flat()
    }

    /// One row per channel.
    pub(super) fn rows_of_channels(self) -> RowLayout {
        let (rows, runs, run_len) = (self.channels, self.n, self.span);
        let statistics = if self.across_n { 0 } else { self.groups };
        let run_step = Place { index: rows * run_len, channel: 0, statistics };
        RowLayout { view: self, by_channel: true, rows, runs, run_len, row_step: run_len, run_step }.flat()
    }
}

/// An element: its index in the tensor, its channel, and the row of the statistics that normalize it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) channel: usize,
    pub(super) statistics: usize,
}

/// The rows that a tensor is divided into.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLayout {
    pub(super) view: ChannelView,
    /// Whether a row is a channel, and not a group of channels of one n.
    pub(super) by_channel: bool,
    pub(super) rows: usize,
    /// Runs of `run_len` contiguous elements per row.
    pub(super) runs: usize,
    pub(super) run_len: usize,
    /// From the start of a row to the start of the next.
    pub(super) row_step: usize,
    /// From the start of a run to the start of the next.
    pub(super) run_step: Place,
}

impl RowLayout {
    /// Elements of a row.
    pub(super) fn cols(&self) -> usize {
        self.runs * self.run_len
    }

    /// The first element of a row.
    #[inline]
    pub(super) fn start(&self, row: usize) -> Place {
        let (channel, statistics) = match self.by_channel {
            true => (row, row / self.view.group_size),
            false => (row % self.view.groups * self.view.group_size, row),
        };
        Place { index: row * self.row_step, channel, statistics }
    }

    /// The place so many runs after `at`.
    #[inline]
    pub(super) fn runs_after(&self, at: Place, runs: usize) -> Place {
        let Place { index, channel, statistics } = self.run_step;
        Place {
            index: at.index + runs * index,
            channel: at.channel + runs * channel,
            statistics: at.statistics + runs * statistics,
        }
    }

    /// Represents rows of one run as rows of runs of one element.
    fn flat(self) -> RowLayout {
        if self.runs != 1 {
            return self;
        }
        RowLayout { runs: self.run_len, run_len: 1, run_step: Place { index: 1, ..Place::default() }, ..self }
    }

    /// Whether rows are interleaved: neighbouring elements belong to neighbouring rows.
    pub(super) fn is_interleaved(&self) -> bool {
        self.run_len == 1 && self.row_step < self.run_step.index
    }
}
