//! A device program for a v2 cgroup.

use super::set::{Access, Key, RuleSet};

/// One eBPF instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct BpfInsn {
    /// Operation.
    pub code: u8,
    /// Destination register and source register; which half of the byte is which depends on the machine.
    pub regs: u8,
    /// Distance of a jump, or offset into the context.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

impl BpfInsn {
    const fn new(code: u8, destination: u8, source: u8, off: i16, imm: i32) -> BpfInsn {
        let regs = if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
        BpfInsn { code, regs, off, imm }
    }

    /// The register that is written or compared.
    #[must_use]
    pub const fn destination(self) -> u8 {
        if cfg!(target_endian = "big") { self.regs >> 4 } else { self.regs & 0xf }
    }

    /// The register that is read.
    #[must_use]
    pub const fn source(self) -> u8 {
        if cfg!(target_endian = "big") { self.regs & 0xf } else { self.regs >> 4 }
    }

    /// The bytes of `struct bpf_insn` on the machine that this runs on.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let [off_a, off_b] = self.off.to_ne_bytes();
        let [a, b, c, d] = self.imm.to_ne_bytes();
        [self.code, self.regs, off_a, off_b, a, b, c, d]
    }
}

/// `BPF_LDX | BPF_MEM | BPF_W`.
const LOAD_WORD: u8 = 0x61;
/// `BPF_ALU | BPF_MOV | BPF_K`: 32 bits, the upper half becomes zero.
const MOVE: u8 = 0xb4;
/// `BPF_ALU | BPF_MOV | BPF_X`.
const MOVE_REGISTER: u8 = 0xbc;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`.
const SHIFT_RIGHT: u8 = 0x74;
/// `BPF_JMP | BPF_JNE | BPF_K`: 64 bits, the immediate is sign-extended.
const JUMP_NOT_EQUAL: u8 = 0x55;
/// `BPF_JMP | BPF_JNE | BPF_X`.
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_EQUAL: u8 = 0x15;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u8 = 0x95;

/// Result register.
const RESULT: u8 = 0;
/// Context at the start, then a scratch register.
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Renders a set as a program of the type `BPF_PROG_TYPE_CGROUP_DEVICE`: 1 lets an access pass, 0 refuses it.
///
/// At most nine instructions per exception (eleven with numbers above 2^31), six before them, two after. It needs no map
/// and no helper and loads on every kernel that has the type (4.15).
/// Context: `struct bpf_cgroup_dev_ctx` of linux/bpf.h: access in the upper and kind in the lower half of the first word,
/// then major and minor number.
#[must_use]
pub fn program(set: &RuleSet) -> Vec<BpfInsn> {
    let result = |allow: bool| [BpfInsn::new(MOVE, RESULT, 0, 0, i32::from(allow)), BpfInsn::new(EXIT, 0, 0, 0, 0)];
    let mut program = Vec::with_capacity(8 + 9 * set.exceptions.len());
    if !set.exceptions.is_empty() {
        program.extend([
            BpfInsn::new(LOAD_WORD, KIND, SCRATCH, 0, 0),
            BpfInsn::new(MOVE_REGISTER, ACCESS, KIND, 0, 0),
            BpfInsn::new(AND, KIND, 0, 0, 0xffff),
            BpfInsn::new(SHIFT_RIGHT, ACCESS, 0, 0, 16),
            BpfInsn::new(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
            BpfInsn::new(LOAD_WORD, MINOR, SCRATCH, 8, 0),
        ]);
    }
    for (key, access) in &set.exceptions {
        program.extend(block(*key, *access, set.default_allow));
        program.extend(result(!set.default_allow));
    }
    program.extend(result(set.default_allow));
    program
}

/// The comparisons of one exception. All jumps lead past the two instructions of its result.
fn block(key: Key, access: Access, default_allow: bool) -> Vec<BpfInsn> {
    let mut block = vec![BpfInsn::new(JUMP_NOT_EQUAL, KIND, 0, 0, if key.character { CHARACTER } else { BLOCK })];
    for (register, number) in [(MAJOR, key.major), (MINOR, key.minor)] {
        let Some(number) = number else { continue };
        match i32::try_from(number) {
            Ok(number) => block.push(BpfInsn::new(JUMP_NOT_EQUAL, register, 0, 0, number)),
            Err(_) => block.extend([
                BpfInsn::new(MOVE, SCRATCH, 0, 0, number as i32),
                BpfInsn::new(JUMP_NOT_EQUAL_REGISTER, register, SCRATCH, 0, 0),
            ]),
        }
    }
    if access != Access::ALL {
        // An allow list needs all of the request to be in the exception, a deny list none of it.
        let unwanted = if default_allow { access } else { Access::ALL.without(access) };
        block.push(BpfInsn::new(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        block.push(BpfInsn::new(AND, SCRATCH, 0, 0, unwanted.bits().into()));
        let skip = if default_allow { JUMP_EQUAL } else { JUMP_NOT_EQUAL };
        block.push(BpfInsn::new(skip, SCRATCH, 0, 0, 0));
    }
    let length = block.len();
    for (at, insn) in block.iter_mut().enumerate() {
        if matches!(insn.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL) {
            insn.off = i16::try_from(length - at - 1 + 2).expect("a block has at most eight comparisons");
        }
    }
    block
}
