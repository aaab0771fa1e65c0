//! Executes filter programs without a kernel.
//!
//! Both simulators accept what the compilers of this crate emit, and of the rest of the instruction sets what other
//! compilers of such filters use. They refuse a program that the kernel would refuse for its shape: a jump out of the
//! program or backwards, a load at an odd place, an end without a return.

use crate::devices::BpfInsn;
use crate::seccomp::{Arch, Instruction, opcode};

/// What the kernel shows a system call filter: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// Number of the call, with the x32 bit where it applies.
    pub number: u32,
    /// `AUDIT_ARCH_` constant, see [`Arch::audit`].
    pub audit: u32,
    /// Address of the instruction that made the call.
    pub instruction_pointer: u64,
    /// The six arguments.
    pub arguments: [u64; 6],
}

/// Why a program cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// An operation that the simulator does not have.
    #[error("instruction {at} has the unknown operation {code:#x}")]
    Operation {
        /// Its place.
        at: usize,
        /// Its operation.
        code: u16,
    },
    /// A load outside of the data or not aligned to four bytes.
    #[error("instruction {at} loads from offset {offset}")]
    Load {
        /// Its place.
        at: usize,
        /// Where it loads from.
        offset: i64,
    },
    /// A jump backwards or out of the program, or an end without a return.
    #[error("instruction {at} leads out of the program")]
    Jump {
        /// Its place.
        at: usize,
    },
    /// A register that was never written is read.
    #[error("instruction {at} reads an empty register")]
    Register {
        /// Its place.
        at: usize,
    },
}

/// The outcome of a system call filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// `SECCOMP_RET_` value.
    pub value: u32,
    /// How many instructions were executed.
    pub steps: usize,
}

/// Executes a system call filter.
///
/// # Errors
/// [`SimulateError`] when the program has a flaw on the way that this call takes.
pub fn filter(program: &[Instruction], call: &Call) -> Result<Outcome, SimulateError> {
    let (mut from, mut at, mut steps, mut accumulator) = (0, 0, 0, 0_u32);
    loop {
        let instruction = program.get(at).ok_or(SimulateError::Jump { at: from })?;
        from = at;
        steps += 1;
        let jump = |holds: bool| at + 1 + usize::from(if holds { instruction.jt } else { instruction.jf });
        at = match instruction.code {
            opcode::LOAD => {
                accumulator =
                    call.word(instruction.k).ok_or(SimulateError::Load { at, offset: instruction.k.into() })?;
                at + 1
            }
            opcode::AND => {
                accumulator &= instruction.k;
                at + 1
            }
            opcode::JA => usize::try_from(instruction.k)
                .ok()
                .and_then(|skip| (at + 1).checked_add(skip))
                .ok_or(SimulateError::Jump { at })?,
            opcode::JEQ => jump(accumulator == instruction.k),
            opcode::JGT => jump(accumulator > instruction.k),
            opcode::JGE => jump(accumulator >= instruction.k),
            opcode::JSET => jump(accumulator & instruction.k != 0),
            opcode::RET => return Ok(Outcome { value: instruction.k, steps }),
            code => return Err(SimulateError::Operation { at, code }),
        };
    }
}

/// Checks the shape of a system call filter as the kernel does before it takes one.
///
/// # Errors
/// [`SimulateError`] for an unknown operation, a load that is not a word of the data, a jump out of the program, or a
/// last instruction that does not return.
pub fn check_filter(program: &[Instruction]) -> Result<(), SimulateError> {
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        let furthest = match instruction.code {
            opcode::LOAD if instruction.k.is_multiple_of(4) && instruction.k < 64 => 0,
            opcode::LOAD => return Err(SimulateError::Load { at, offset: instruction.k.into() }),
            opcode::AND => 0,
            opcode::JA => usize::try_from(instruction.k).unwrap_or(usize::MAX),
            opcode::JEQ | opcode::JGT | opcode::JGE | opcode::JSET => instruction.jt.max(instruction.jf).into(),
            opcode::RET => continue,
            code => return Err(SimulateError::Operation { at, code }),
        };
        if furthest >= left {
            return Err(SimulateError::Jump { at });
        }
    }
    if program.is_empty() { Err(SimulateError::Jump { at: 0 }) } else { Ok(()) }
}

impl Call {
    /// A call as the architecture makes it.
    #[must_use]
    pub fn new(arch: Arch, number: u32, arguments: [u64; 6]) -> Call {
        Call { number, audit: arch.audit(), instruction_pointer: 0, arguments }
    }

    /// The word at an offset, in the layout of the machine that the call is made on.
    fn word(&self, offset: u32) -> Option<u32> {
        // The one big-endian architecture.
        let upper_first = self.audit == Arch::S390x.audit();
        let half = |value: u64, second: bool| if second == upper_first { value as u32 } else { (value >> 32) as u32 };
        match offset {
            0 => Some(self.number),
            4 => Some(self.audit),
            8 | 12 => Some(half(self.instruction_pointer, offset == 12)),
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[((offset - 16) / 8) as usize];
                Some(half(argument, offset % 8 == 4))
            }
            _ => None,
        }
    }
}

/// What the kernel shows a device program: `struct bpf_cgroup_dev_ctx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// 1 block, 2 character.
    pub kind: u16,
    /// 1 mknod, 2 read, 4 write, or a sum.
    pub access: u16,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Executes a device program and returns its result: 1 lets the access pass, 0 refuses it.
///
/// # Errors
/// [`SimulateError`] when the program has a flaw on the way that this access takes.
pub fn device(program: &[BpfInsn], access: &DeviceAccess) -> Result<u64, SimulateError> {
    let mut registers: [Option<u64>; 11] = [None; 11];
    // Register 1 points to the context; the simulator knows it by this mark.
    registers[1] = Some(CONTEXT);
    let (mut from, mut at) = (0, 0);
    loop {
        let insn = program.get(at).ok_or(SimulateError::Jump { at: from })?;
        from = at;
        let read = |register: u8| registers.get(usize::from(register)).copied().flatten();
        let empty = SimulateError::Register { at };
        let immediate = i64::from(insn.imm) as u64;
        let mut next = at + 1;
        match insn.code {
            // BPF_EXIT
            0x95 => return read(0).ok_or(empty),
            // BPF_LDX | BPF_MEM | BPF_W
            0x61 => {
                let bad = SimulateError::Load { at, offset: insn.off.into() };
                if read(insn.source()) != Some(CONTEXT) {
                    return Err(bad);
                }
                registers[usize::from(insn.destination())] = Some(access.word(insn.off).ok_or(bad)?.into());
            }
            // BPF_ALU: MOV imm, MOV reg, AND imm, RSH imm with 32 bits; BPF_ALU64: MOV imm.
            code @ (0xb4 | 0xbc | 0x54 | 0x74 | 0xb7) => {
                let old = read(insn.destination());
                let value = match code {
                    0xb4 => u64::from(insn.imm as u32),
                    0xb7 => immediate,
                    0xbc => read(insn.source()).ok_or(empty)? & 0xffff_ffff,
                    0x54 => old.ok_or(empty)? & u64::from(insn.imm as u32),
                    _ => (old.ok_or(empty)? & 0xffff_ffff) >> (insn.imm & 31),
                };
                registers[usize::from(insn.destination())] = Some(value);
            }
            // BPF_JMP: JA, JEQ imm, JNE imm, JNE reg, JSET imm.
            code @ (0x05 | 0x15 | 0x55 | 0x5d | 0x45) => {
                let holds = match code {
                    0x05 => true,
                    0x15 => read(insn.destination()).ok_or(empty)? == immediate,
                    0x55 => read(insn.destination()).ok_or(empty)? != immediate,
                    0x5d => read(insn.destination()).ok_or(empty)? != read(insn.source()).ok_or(empty)?,
                    _ => read(insn.destination()).ok_or(empty)? & immediate != 0,
                };
                if holds {
                    next += usize::try_from(insn.off).map_err(|_| SimulateError::Jump { at })?;
                }
            }
            code => return Err(SimulateError::Operation { at, code: code.into() }),
        }
        at = next;
    }
}

/// Stands for the address of the context.
const CONTEXT: u64 = 0xffff_8880_0000_0000;

impl DeviceAccess {
    fn word(&self, offset: i16) -> Option<u32> {
        match offset {
            0 => Some(u32::from(self.access) << 16 | u32::from(self.kind)),
            4 => Some(self.major),
            8 => Some(self.minor),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn run(program: &[Instruction]) -> Result<u32, SimulateError> {
        let call = Call::new(Arch::X86_64, 7, [0x1_0000_0002, 3, 4, 5, 6, 7]);
        filter(program, &call).map(|outcome| outcome.value)
    }

    #[test]
    fn a_filter_sees_the_call() {
        for (offset, value) in [(0, 7), (4, 0xc000_003e), (8, 0), (16, 2), (20, 1), (24, 3), (56, 7), (60, 0)] {
            let program = [
                insn(opcode::LOAD, 0, 0, offset),
                insn(opcode::JEQ, 0, 1, value),
                insn(opcode::RET, 0, 0, 1),
                insn(opcode::RET, 0, 0, 0),
            ];
            assert_eq!(run(&program), Ok(1), "offset {offset}");
            assert_eq!(check_filter(&program), Ok(()));
        }
    }

    #[test]
    fn big_endian_has_the_upper_half_first() {
        let call = Call::new(Arch::S390x, 7, [0x1_0000_0002, 0, 0, 0, 0, 0]);
        assert_eq!((call.word(16), call.word(20)), (Some(1), Some(2)));
    }

    #[test]
    fn flawed_filters_are_refused() {
        let ret = insn(opcode::RET, 0, 0, 1);
        for (program, error) in [
            (vec![], SimulateError::Jump { at: 0 }),
            (vec![insn(opcode::AND, 0, 0, 0)], SimulateError::Jump { at: 0 }),
            (vec![insn(opcode::JA, 0, 0, 1), ret], SimulateError::Jump { at: 0 }),
            (vec![insn(opcode::LOAD, 0, 0, 62), ret], SimulateError::Load { at: 0, offset: 62 }),
            (vec![insn(opcode::LOAD, 0, 0, 64), ret], SimulateError::Load { at: 0, offset: 64 }),
            (vec![insn(0x99, 0, 0, 0), ret], SimulateError::Operation { at: 0, code: 0x99 }),
        ] {
            assert_eq!(check_filter(&program), Err(error));
        }
        assert_eq!(run(&[insn(opcode::JEQ, 9, 9, 0), ret]), Err(SimulateError::Jump { at: 0 }));
    }

    fn device_insn(code: u8, regs: u8, off: i16, imm: i32) -> BpfInsn {
        BpfInsn { code, regs, off, imm }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn flawed_device_programs_are_refused() {
        let access = DeviceAccess { kind: 2, access: 6, major: 1, minor: 3 };
        let exit = device_insn(0x95, 0, 0, 0);
        for (program, error) in [
            (vec![], SimulateError::Jump { at: 0 }),
            (vec![exit], SimulateError::Register { at: 0 }),
            (vec![device_insn(0xb4, 0, 0, 1)], SimulateError::Jump { at: 0 }),
            (vec![device_insn(0x05, 0, -1, 0), exit], SimulateError::Jump { at: 0 }),
            (vec![device_insn(0x05, 0, 5, 0), exit], SimulateError::Jump { at: 0 }),
            (vec![device_insn(0x61, 0x10, 12, 0), exit], SimulateError::Load { at: 0, offset: 12 }),
            (vec![device_insn(0x61, 0x20, 0, 0), exit], SimulateError::Load { at: 0, offset: 0 }),
            (vec![device_insn(0xdb, 0, 0, 0), exit], SimulateError::Operation { at: 0, code: 0xdb }),
        ] {
            assert_eq!(device(&program, &access), Err(error));
        }
        let whole = [device_insn(0x61, 0x10, 0, 0), exit];
        assert_eq!(device(&whole, &access), Ok(0x0006_0002));
    }
}
