# A boot sector that does what an operating system's start does, and says so on port 0xe9: it asks the firmware for the
# disk (int 13h), reads from it, switches to protected and long mode with paging, and runs there.
# Built into probe.bin by:  as probe.s -o probe.o && ld -Ttext 0x7c00 --oformat binary -o probe.bin probe.o
.code16
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    movb %dl, drive
    movb $0x41, %ah            # are there extensions? (what Linux calls "Probing EDD")
    movw $0x55aa, %bx
    int $0x13
    movb $0x08, %ah            # the disk's shape
    movb drive, %dl
    pushw %es
    int $0x13
    popw %es
    movw $0x0201, %ax          # read the first sector again
    movw $0x0001, %cx
    movb $0x00, %dh
    movb drive, %dl
    movw $0x6000, %bx
    int $0x13
    jc dead
    cli
    movw $0x9000, %di          # page tables: 2 MiB mapped to itself
    movw $0x1800, %cx
    xorw %ax, %ax
    rep stosw
    movl $0xa003, 0x9000
    movl $0xb003, 0xa000
    movl $0x0083, 0xb000
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0x9000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    lgdt gdt_pointer
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmp $0x08, $long_mode
dead:
    hlt
    jmp dead
.code64
long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $100000, %ecx         # some work in long mode
again:
    addq %rcx, %rdx
    loop again
    xorl %eax, %eax
    cpuid
    leaq words(%rip), %rsi
say:
    lodsb
    testb %al, %al
    jz done
    outb %al, $0xe9
    jmp say
done:
    movw $0xf4, %dx            # isa-debug-exit: QEMU ends
    movb $0x2a, %al
    outb %al, %dx
halt:
    hlt
    jmp halt
drive: .byte 0
words: .asciz "PENSTOCK-BOOTED"
.balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
.org 510
    .word 0xaa55
