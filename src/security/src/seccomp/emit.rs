//! Turns ranges and clauses into instructions of the classic Berkeley packet filter.
//!
//! The program is made from its end to its beginning: jumps only lead forward, so a target always has its place before
//! the jump to it is made, and where an 8-bit distance does not reach, a copy of the return or a long jump (32 bits) is
//! put in between. No block falls through into another, so such additions can stand anywhere.

use runtime_spec::model::{SeccompAction, SeccompArg, SeccompOp};

use super::ranges::Range;
use super::rules::{Clause, Verdict};
use super::{Arch, Instruction, opcode};

/// Place of an instruction, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// How far a conditional jump may go before a nearer stand-in is made; it leaves room for the stand-in of the jump's
/// other target.
const NEAR: usize = 250;

/// How many numbers are compared one by one below a leaf of the tree.
const POINTS: usize = 3;

/// A program that grows at its beginning.
#[derive(Debug)]
pub(super) struct Emitter {
    /// In reverse.
    code: Vec<Instruction>,
    /// The nearest stand-in of each target: returns and long jumps.
    near: Vec<(Label, Label)>,
    /// The first return of each action that was made.
    returns: Vec<(SeccompAction, Label)>,
    default: SeccompAction,
}

impl Emitter {
    pub(super) fn new(default: SeccompAction) -> Emitter {
        Emitter { code: Vec::with_capacity(1024), near: Vec::new(), returns: Vec::new(), default }
    }

    /// The program from its beginning.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    /// Adds a whole audit architecture: load the number, search it.
    pub(super) fn numbers(&mut self, ranges: &[Range]) -> Label {
        let leaves = leaves(ranges);
        let tree = self.tree(&leaves);
        self.load(super::OFFSET_NUMBER, tree)
    }

    /// Adds the dispatch on the architecture, the first of the list first.
    pub(super) fn architectures(&mut self, entries: &[(u32, Label)], otherwise: SeccompAction) -> Label {
        let mut next = self.action(otherwise);
        for (audit, entry) in entries.iter().rev() {
            next = self.branch(opcode::JEQ, *audit, *entry, next);
        }
        self.load(super::OFFSET_ARCH, next)
    }

    fn tree(&mut self, leaves: &[Leaf<'_>]) -> Label {
        match leaves {
            [leaf] => self.leaf(leaf),
            _ => {
                let (low, high) = leaves.split_at(leaves.len() / 2);
                let at_least = self.tree(high);
                let below = self.tree(low);
                self.branch(opcode::JGE, high[0].start, at_least, below)
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf<'_>) -> Label {
        let mut next = self.verdict(leaf.background);
        for (number, verdict) in leaf.points.iter().rev() {
            let found = self.verdict(verdict);
            next = self.branch(opcode::JEQ, *number, found, next);
        }
        next
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        match verdict {
            Verdict::Action(action) => self.action(*action),
            Verdict::Clauses { arch, clauses } => {
                let mut next = self.action(self.default);
                for clause in clauses.iter().rev() {
                    next = self.clause(*arch, clause, next);
                }
                next
            }
        }
    }

    fn clause(&mut self, arch: Arch, clause: &Clause, otherwise: Label) -> Label {
        let mut next = self.action(clause.action);
        for condition in clause.conditions.iter().rev() {
            next = self.condition(arch, condition, next, otherwise);
        }
        next
    }

    fn condition(&mut self, arch: Arch, condition: &SeccompArg, holds: Label, fails: Label) -> Label {
        let (value, mask) = (condition.value, condition.value);
        match condition.op {
            SeccompOp::Eq => self.equal(arch, condition.index, value, u64::MAX, holds, fails),
            SeccompOp::Ne => self.equal(arch, condition.index, value, u64::MAX, fails, holds),
            SeccompOp::MaskedEq => self.equal(arch, condition.index, condition.value_two, mask, holds, fails),
            SeccompOp::Gt => self.greater(arch, condition.index, opcode::JGT, value, holds, fails),
            SeccompOp::Ge => self.greater(arch, condition.index, opcode::JGE, value, holds, fails),
            SeccompOp::Lt => self.greater(arch, condition.index, opcode::JGE, value, fails, holds),
            SeccompOp::Le => self.greater(arch, condition.index, opcode::JGT, value, fails, holds),
        }
    }

    fn equal(&mut self, arch: Arch, index: u8, value: u64, mask: u64, yes: Label, no: Label) -> Label {
        let (low, high) = offsets(arch, index);
        let mut next = yes;
        for (offset, value, mask) in
            [(low, value as u32, mask as u32), (high, (value >> 32) as u32, (mask >> 32) as u32)]
        {
            if mask == 0 || (offset == high && !arch.compares_64_bits()) {
                continue;
            }
            next = self.branch(opcode::JEQ, value, next, no);
            if mask != u32::MAX {
                next = self.push(Instruction { code: opcode::AND, jt: 0, jf: 0, k: mask }, next);
            }
            next = self.load(offset, next);
        }
        next
    }

    fn greater(&mut self, arch: Arch, index: u8, code: u16, value: u64, yes: Label, no: Label) -> Label {
        let (low, high) = offsets(arch, index);
        let next = self.branch(code, value as u32, yes, no);
        let next = self.load(low, next);
        if !arch.compares_64_bits() {
            return next;
        }
        let upper = (value >> 32) as u32;
        let next = self.branch(opcode::JEQ, upper, next, no);
        let next = self.branch(opcode::JGT, upper, yes, next);
        self.load(high, next)
    }

    /// A return of this action.
    fn action(&mut self, action: SeccompAction) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == action) {
            return *label;
        }
        let label = self.add(Instruction { code: opcode::RET, jt: 0, jf: 0, k: super::return_value(action) });
        self.returns.push((action, label));
        label
    }

    /// A load that continues at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.push(Instruction { code: opcode::LOAD, jt: 0, jf: 0, k: offset }, next)
    }

    /// A conditional jump; just the target where both are the same.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let distance =
            |label: Label, from: usize| u8::try_from(from - label.0 - 1).expect("stand-ins keep targets within 8 bits");
        let from = self.code.len();
        self.add(Instruction { code, jt: distance(yes, from), jf: distance(no, from), k })
    }

    /// Adds an instruction that has one successor. It must stand right before it, else a jump is put in between.
    fn push(&mut self, instruction: Instruction, next: Label) -> Label {
        if next.0 + 1 != self.code.len() {
            self.stand_in(next);
        }
        self.add(instruction)
    }

    /// The target itself or a stand-in that a conditional jump reaches.
    fn near(&mut self, target: Label) -> Label {
        if self.reaches(target) {
            return target;
        }
        match self.near.iter().find(|(of, _)| *of == target) {
            Some((_, label)) if self.reaches(*label) => *label,
            _ => self.stand_in(target),
        }
    }

    fn reaches(&self, label: Label) -> bool {
        self.code.len() - label.0 <= NEAR
    }

    /// Adds a copy of a return or a long jump to anything else.
    fn stand_in(&mut self, target: Label) -> Label {
        let original = self.code[target.0];
        let label = if original.code == opcode::RET {
            self.add(original)
        } else {
            let distance = u32::try_from(self.code.len() - target.0 - 1).expect("a program is shorter than 2^32");
            self.add(Instruction { code: opcode::JA, jt: 0, jf: 0, k: distance })
        };
        match self.near.iter_mut().find(|(of, _)| *of == target) {
            Some((_, nearest)) => *nearest = label,
            None => self.near.push((target, label)),
        }
        label
    }

    fn add(&mut self, instruction: Instruction) -> Label {
        self.code.push(instruction);
        Label(self.code.len() - 1)
    }
}

/// Where the lower and the upper half of an argument lie in `seccomp_data`.
fn offsets(arch: Arch, index: u8) -> (u32, u32) {
    let start = super::OFFSET_ARGUMENTS + 8 * u32::from(index);
    if arch.is_big_endian() { (start + 4, start) } else { (start, start + 4) }
}

/// A run of numbers that are treated alike but for a few.
#[derive(Debug)]
struct Leaf<'a> {
    start: u32,
    background: &'a Verdict,
    points: Vec<(u32, &'a Verdict)>,
}

/// Takes ranges together: one comparison sets a single number apart from what surrounds it, where a tree of ranges needs
/// two.
fn leaves(ranges: &[Range]) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let [first, tail @ ..] = rest {
        let mut leaf = Leaf { start: first.start, background: &first.verdict, points: Vec::new() };
        rest = tail;
        while let [single, after, tail @ ..] = rest
            && after.start - single.start == 1
            && after.verdict == *leaf.background
        {
            if leaf.points.len() == POINTS {
                let next = Leaf { start: single.start, background: leaf.background, points: Vec::new() };
                leaves.push(std::mem::replace(&mut leaf, next));
            }
            leaf.points.push((single.start, &single.verdict));
            rest = tail;
        }
        leaves.push(leaf);
    }
    leaves
}
