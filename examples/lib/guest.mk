# How a guest is made: build/NAME.hvt, and build/NAME.spt for those in SPT, from NAME.c and the library.
# Include it, with LIB set to this folder.
CC := gcc
CFLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-pic -no-pie -nostdlib -static \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -mno-red-zone \
	-fno-tree-loop-distribute-patterns -I$(LIB) -MMD
LDFLAGS := -Wl,-T,$(LIB)/solo5.lds -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096
LIBRARY := $(addprefix $(LIB)/,start.c hypercall.c string.c stdio.c)
SPT_LIBRARY := $(addprefix $(LIB)/,start.c spt.c string.c stdio.c)
IMAGES := $(patsubst %.c,build/%.hvt,$(filter-out $(HVT_EXCEPT),$(wildcard *.c))) $(SPT:%.c=build/%.spt)

all: $(IMAGES)

build/lib/%.o: $(LIB)/%.c $(LIB)/guest.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<

build/spt/%.o: $(LIB)/%.c $(LIB)/guest.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -DUK_TARGET=2 -c -o $@ $<

build/%.o: %.c $(LIB)/guest.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<

build/%.hvt: build/%.o $(patsubst $(LIB)/%.c,build/lib/%.o,$(LIBRARY)) $(LIB)/solo5.lds
	echo 'const char uk_name[] = "$*";' | $(CC) $(CFLAGS) $(LDFLAGS) -MF /dev/null -o $@ $(filter %.o,$^) -x c -

build/%.spt: build/%.o $(patsubst $(LIB)/%.c,build/spt/%.o,$(SPT_LIBRARY)) $(LIB)/solo5.lds
	echo 'const char uk_name[] = "$*";' | $(CC) $(CFLAGS) $(LDFLAGS) -MF /dev/null -o $@ $(filter %.o,$^) -x c -

-include $(wildcard build/*.d build/lib/*.d build/spt/*.d)
.PHONY: all
.SECONDARY:
