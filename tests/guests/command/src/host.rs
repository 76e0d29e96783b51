//! The imports, with pointers as plain numbers so that they may be wrong, and the few that a program needs in a safe form.

/// What is imported from the host. Nothing of it is checked on this side: that is what the tests are about.
macro_rules! imports {
    ($module:literal: $($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        #[link(wasm_import_module = $module)]
        unsafe extern "C" {
            $(pub(crate) safe fn $name($($argument: $kind),*) $(-> $result)?;)*
        }
    };
}

imports! { "wasi_snapshot_preview1":
    fd_read(fd: u32, vectors: u32, count: u32, read: u32) -> u32;
    fd_write(fd: u32, vectors: u32, count: u32, written: u32) -> u32;
    path_open(fd: u32, flags: u32, path: u32, length: u32, how: u32, rights: u64, inherited: u64, mode: u32, out: u32) -> u32;
    args_sizes_get(count: u32, size: u32) -> u32;
    args_get(pointers: u32, buffer: u32) -> u32;
    environ_sizes_get(count: u32, size: u32) -> u32;
    environ_get(pointers: u32, buffer: u32) -> u32;
    proc_exit(code: u32);
}

/// `wasi_ephemeral_nn`, whose functions have the same names as some of the script's words.
pub(crate) mod nn {
    imports! { "wasi_ephemeral_nn":
        load(parts: u32, count: u32, encoding: u32, target: u32, out: u32) -> u32;
        load_by_name(name: u32, length: u32, out: u32) -> u32;
        load_by_name_with_config(name: u32, length: u32, config: u32, config_length: u32, out: u32) -> u32;
        init_execution_context(graph: u32, out: u32) -> u32;
        set_input(context: u32, index: u32, tensor: u32) -> u32;
        compute(context: u32) -> u32;
        get_output(context: u32, index: u32, buffer: u32, size: u32, out: u32) -> u32;
        compute_single(context: u32) -> u32;
        get_output_single(context: u32, index: u32, buffer: u32, size: u32, out: u32) -> u32;
        fini_single(context: u32) -> u32;
        unload(graph: u32) -> u32;
        finalize_execution_context(context: u32) -> u32;
    }
}

/// Where something is that the host reads.
pub(crate) fn address<T: ?Sized>(value: &T) -> u32 {
    std::ptr::from_ref(value).cast::<u8>().expose_provenance() as u32
}

/// Where something is that the host writes.
pub(crate) fn address_mut<T: ?Sized>(value: &mut T) -> u32 {
    std::ptr::from_mut(value).cast::<u8>().expose_provenance() as u32
}

/// Reads a file to its end, which must go well.
pub(crate) fn read(fd: u32) -> Vec<u8> {
    let mut content = Vec::new();
    let read = read_to(fd, &mut content);
    assert!(read.is_ok(), "fd_read: {read:?}");
    content
}

/// Reads a file to its end; the number of an error ends that.
pub(crate) fn read_to(fd: u32, content: &mut Vec<u8>) -> Result<(), u32> {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let vector = [address_mut(&mut buffer[..]), buffer.len() as u32];
        let mut read = 0_u32;
        let errno = fd_read(fd, address(&vector), 1, address_mut(&mut read));
        if errno != 0 {
            return Err(errno);
        }
        if read == 0 {
            return Ok(());
        }
        content.extend_from_slice(&buffer[..read as usize]);
    }
}

/// Writes all of it; the number of an error ends that.
pub(crate) fn write(fd: u32, mut bytes: &[u8]) -> u32 {
    while !bytes.is_empty() {
        let vector = [address(bytes), bytes.len() as u32];
        let mut written = 0_u32;
        let errno = fd_write(fd, address(&vector), 1, address_mut(&mut written));
        if errno != 0 {
            return errno;
        }
        bytes = bytes.get(written as usize..).unwrap_or_default();
    }
    0
}

/// Texts that the host gives as a block: arguments, or the environment.
pub(crate) fn texts(sizes: fn(u32, u32) -> u32, get: fn(u32, u32) -> u32) -> Vec<String> {
    let mut numbers = [0_u32; 2];
    let at = address_mut(&mut numbers);
    assert!(sizes(at, at + 4) == 0, "the sizes");
    let [count, size] = numbers;
    let (mut pointers, mut block) = (vec![0_u32; count as usize], vec![0_u8; size as usize]);
    assert!(get(address_mut(&mut pointers[..]), address_mut(&mut block[..])) == 0, "the texts");
    let texts = block.split(|&byte| byte == 0).take(count as usize);
    texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}
