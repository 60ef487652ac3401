"""The control plane as one object: production, the twin and the tests build the same one."""

from collections.abc import Callable
from pathlib import Path

from penstock.actions import deletion_proof as proof_actions
from penstock.actions import device_class as device_class_actions
from penstock.actions import gateway as gateway_actions
from penstock.actions import model as model_actions
from penstock.actions import totp as totp_actions
from penstock.actions.context import Context
from penstock.actions.seed import seed_catalogue
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import UnavailableError
from penstock.catalog.fleet import SharedPicture
from penstock.domain.device import load_device_classes
from penstock.drivers.base import InjectsFaults
from penstock.drivers.oidc.provider import Provider
from penstock.drivers.oidc.settings import load as load_providers
from penstock.drivers.pki.signing import Signer
from penstock.engine.autoscale import Autoscaler
from penstock.engine.batch import BatchEngine
from penstock.engine.certificate import CertificateEngine
from penstock.engine.deletion import Deletions
from penstock.engine.document import DocumentEngine
from penstock.engine.fabric_partition import FabricPartitionEngine
from penstock.engine.image import ImageEngine
from penstock.engine.invoice import InvoiceEngine
from penstock.engine.load_balancer import LoadBalancerEngine
from penstock.engine.loop import Loop
from penstock.engine.network import NetworkEngine
from penstock.engine.node import NodeEngine
from penstock.engine.power import PowerEngine
from penstock.engine.rag import RagEngine
from penstock.engine.reservation import ReservationEngine
from penstock.engine.retention import RetentionEngine
from penstock.engine.service import ServiceEngine
from penstock.engine.vm import VmEngine
from penstock.engine.volume import VolumeEngine
from penstock.store import service as service_store
from penstock.store import site as site_store
from penstock.store.database import SYSTEM, Database
from penstock.store.wakeups import Wakeups


class ControlPlane:
    """Database, clock and wake-ups behind one ``context``, and the loops that act by themselves.

    ``fault_injectors`` are the simulated drivers of this process by site id, for rehearsals.
    """

    def __init__(self, database_url: str, clock: Clock, *, connections: int | None = None) -> None:
        classes = load_device_classes()
        self.clock = clock
        self.db = (
            Database(database_url)
            if connections is None
            else Database(database_url, tenant_connections=connections, system_connections=connections)
        )
        self.wakeups = Wakeups()
        self.context = Context(self.db, clock, self.wakeups, classes, SharedPicture(classes))
        self.services = ServiceEngine(self.db, clock, self.wakeups, classes)
        self.autoscaler = Autoscaler(self.db, clock, self.wakeups)
        self.reservations = ReservationEngine(self.db, clock, self.wakeups)
        self.nodes = NodeEngine(self.db, clock, self.wakeups)
        self.power = PowerEngine(self.db, clock)
        self.networks = NetworkEngine(self.db, clock, self.wakeups)
        self.load_balancers = LoadBalancerEngine(self.db, clock, self.wakeups)
        self.fabric = FabricPartitionEngine(self.db, clock, self.wakeups)
        self.certificates = CertificateEngine(self.db, clock, self.wakeups, self.context.vault)
        self.invoices = InvoiceEngine(self.db, clock)
        self.retention = RetentionEngine(self.db, clock)
        self.deletions = Deletions(self.db, clock)
        self.vms = VmEngine(self.db, clock, self.wakeups)
        self.volumes = VolumeEngine(self.db, clock, self.wakeups)
        self.images = ImageEngine(self.db, clock, self.wakeups, self.context.images)
        self.documents = DocumentEngine(self.db, clock, self.wakeups, self.context.inference, self.deletions)
        self.rag = RagEngine(self.db, clock, self.wakeups, self.context.inference)
        self.gateway_url: str | None = None  # where the workers of batches send their requests
        self.batches = BatchEngine(
            self.db, clock, self.wakeups, self.context.vault, gateway_url=lambda: self.gateway_url
        )
        self.fault_injectors: dict[str, InjectsFaults] = {}
        self.loops: list[Loop] = []

    def listen(self) -> None:
        """Hear the other replicas: their wake-ups, and the device classes that they add."""
        self.wakeups.share(self.db.raw_dsn())
        self._start(self._loop("classes", self._read_classes, "device_class", limits.CLASSES_TICK_SECONDS))

    def start_loops(self, *, alone: bool) -> None:
        """Start the engine; ``alone`` says that no other engine runs on this database, so its leases are void."""
        if alone:
            self.services.recover()
            self.documents.recover()
            self.batches.recover()
            self.images.recover()
        self.listen()
        self.nodes.recover()
        self._start(
            self._loop("service", self.services.tick, "service", limits.IDLE_TICK_SECONDS),
            self._loop("autoscale", self.autoscaler.tick, "autoscale", limits.IDLE_TICK_SECONDS),
            self._loop("vm", self.vms.tick, "report", limits.VM_TICK_SECONDS, gathers=False),
            self._loop("volume", self.volumes.tick, "report", limits.VOLUME_TICK_SECONDS),
            self._loop("image", self.images.tick, "image", limits.IMAGE_TICK_SECONDS),
            self._loop("image-sweep", self.images.sweep, None, limits.RETENTION_TICK_SECONDS),
            self._loop("volume-meter", self.volumes.meter, None, limits.RETENTION_TICK_SECONDS),
            self._loop("vm-meter", self.vms.meter, None, limits.VM_METER_TICK_SECONDS),
            self._loop("console", self.vms.forget_old, None, limits.RETENTION_TICK_SECONDS),
            self._loop("console-session", self.vms.end_lost, None, limits.CONSOLE_LOST_TICK_SECONDS),
            self._loop("reservation", self.reservations.tick, "reservation", limits.RESERVATION_TICK_SECONDS),
            self._loop("node", self.nodes.tick, None, limits.NODE_TICK_SECONDS),
            self._loop("power", self.power.tick, None, limits.POWER_TICK_SECONDS),
            self._loop("knowledge", self.documents.tick, "knowledge", limits.KNOWLEDGE_TICK_SECONDS),
            self._loop("rag", self.rag.tick, "service", limits.KNOWLEDGE_TICK_SECONDS),
            self._loop("network", self.networks.tick, "network", limits.NETWORK_TICK_SECONDS, gathers=False),
            self._loop(
                "load_balancer", self.load_balancers.tick, "load_balancer", limits.BALANCER_TICK_SECONDS
            ),
            self._loop("fabric_partition", self.fabric.tick, "report", limits.FABRIC_TICK_SECONDS),
            self._loop("certificate", self.certificates.tick, None, limits.CERTIFICATE_TICK_SECONDS),
            self._loop("batch", self.batches.tick, "batch", limits.BATCH_TICK_SECONDS),
            self._loop("invoice", self.invoices.tick, None, limits.INVOICE_TICK_SECONDS),
            self._loop("retention", self.retention.tick, None, limits.RETENTION_TICK_SECONDS),
        )

    def _start(self, *loops: Loop) -> None:
        for loop in loops:
            self.loops.append(loop)
            loop.start()

    def _read_classes(self) -> int:
        device_class_actions.read_again(self.context)
        return 0  # nothing that more ticks could go on with

    def seed(self) -> None:
        """Write what a new factory starts with: device classes, models, prices, offers."""
        device_class_actions.seed(self.context)
        model_actions.seed(self.context)
        seed_catalogue(self.context)

    def trust_gateway(self, token: str) -> None:
        """Accept this token, and no other, from gateways; only its hash is stored."""
        gateway_actions.trust(self.context, token)

    def sign_with(self, key_file: Path, *, owner: bool) -> None:
        """Sign proofs of deletion with the key in this file; the factory knows its public part from then on.

        The owner of the factory makes the file at first use and may bring another one. Others must have a copy of it,
        unless the factory has no key yet; StartupError if theirs is absent or holds another.
        """
        known = proof_actions.known_keys(self.context)
        signer = Signer.from_file(key_file, make=owner or not known)
        proof_actions.adopt_key(self.context, signer.public_key, owner=owner)
        self.deletions.sign_with(signer)

    def keep_images_in(self, folder: Path) -> None:
        """Keep the bytes of images in this folder."""
        self.context.images.use(folder)

    def seal_with(self, key_file: Path) -> None:
        """Seal stored secrets with the key in this file, made at first use; what lies open is sealed now."""
        self.context.vault.load(key_file)
        totp_actions.seal_stored(self.context)

    def sign_in_through(self, settings_file: Path) -> None:
        """Let people sign in through the OpenID providers in this file; StartupError names what is wrong in it."""
        for settings in load_providers(settings_file):
            self.context.providers[settings.name] = Provider(settings, self.clock)

    def inject_faults_through(self, site_name: str, driver: InjectsFaults) -> None:
        """Let operators rehearse faults on a simulated site of this process."""
        with self.db.transaction(SYSTEM) as connection:
            row = site_store.find(connection, site_name)
        if row is not None:
            self.fault_injectors[row["id"]] = driver

    def _loop(
        self,
        name: str,
        tick: Callable[[], int],
        topic: str | None,
        idle_seconds: float,
        *,
        gathers: bool = True,
    ) -> Loop:
        if topic is not None:
            self.wakeups.count(topic)  # one that nobody knows would end the loop's thread, not the start
        return Loop(
            name,
            tick,
            clock=self.clock,
            wakeups=self.wakeups,
            topic=topic,
            idle_seconds=idle_seconds,
            gathers=gathers,
        )

    def status_sentence(self) -> str:
        """Return one line about how things are, for the terminal."""
        try:
            with self.db.transaction(SYSTEM) as connection:
                counts = service_store.count_by_state(connection)
        except UnavailableError as error:
            return error.sentence
        running = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return f"services: {running or 'none'}"

    def close(self) -> None:
        """Stop the loops, finish the ticks in progress, give every connection back."""
        for loop in self.loops:
            loop.stop()
        self.wakeups.stop()
        for loop in self.loops:
            loop.join()
        self.batches.close()
        self.images.close()
        self.context.searches.shutdown(cancel_futures=True)
        self.context.inference.close()
        self.db.dispose()
